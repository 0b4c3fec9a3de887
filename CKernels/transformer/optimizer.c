/* Optimizers: runs of elements are tasks. */
#include "../layout.h"

#define TEMPLATE "../transformer/optimizer.inc.h"
#include "../isa/foreach.h"

/* Elements of a task: long enough to hide its start, short enough that the threads end together. */
enum { RUN = 1 << 15 };

typedef void (*adamw_fn)(const moe_adamw_rule *, const float *, int64_t, float *, float *, float *);
typedef void (*sgd_fn)(const moe_sgd_rule *, const float *, int64_t, float *, float *);
static const adamw_fn adamw_table[MOE_ISA_COUNT] = ISA_TABLE(adamw_step);
static const sgd_fn sgd_table[MOE_ISA_COUNT] = ISA_TABLE(sgd_step);

typedef struct {
  moe_isa isa;
  const void *rule;
  const float *gradient;
  int64_t count;
  float *values, *first, *second;
} optimizer_args;

static void adamw_run(void *context, int64_t task, int thread) {
  (void)thread;
  const optimizer_args *g = context;
  const int64_t at = task * RUN;
  adamw_table[g->isa](g->rule, g->gradient + at, min64(RUN, g->count - at), g->values + at, g->first + at,
                      g->second + at);
}

void moe_adamw(moe_execution ex, const moe_adamw_rule *rule, const float *gradient, int64_t count,
               float *values, float *mean, float *variance) {
  optimizer_args g = {ex.isa, rule, gradient, count, values, mean, variance};
  moe_parallel_for(ex.threads, ceil_div(count, RUN), adamw_run, &g);
}

static void sgd_run(void *context, int64_t task, int thread) {
  (void)thread;
  const optimizer_args *g = context;
  const int64_t at = task * RUN;
  sgd_table[g->isa](g->rule, g->gradient + at, min64(RUN, g->count - at), g->values + at,
                    g->first ? g->first + at : NULL);
}

void moe_sgd(moe_execution ex, const moe_sgd_rule *rule, const float *gradient, int64_t count, float *values,
             float *velocity) {
  optimizer_args g = {ex.isa, rule, gradient, count, values, velocity, NULL};
  moe_parallel_for(ex.threads, ceil_div(count, RUN), sgd_run, &g);
}
