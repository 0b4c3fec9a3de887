/* Cross-entropy of rows: blocks of rows are tasks. */
#include "../layout.h"

#define TEMPLATE "../transformer/cross_entropy.inc.h"
#include "../isa/foreach.h"

enum { BLOCK_ROWS = 32 };

typedef float (*row_fn)(float *, int64_t, int64_t, float);
static const row_fn row_table[MOE_ISA_COUNT] = ISA_TABLE(cross_entropy_row);

typedef struct {
  moe_isa isa;
  float *logits;
  const uint8_t *targets;
  int64_t T, V;
  float scale, *losses;
} entropy_args;

static void entropy_task(void *context, int64_t task, int thread) {
  (void)thread;
  const entropy_args *g = context;
  const int64_t last = min64(g->T, (task + 1) * BLOCK_ROWS);
  for (int64_t t = task * BLOCK_ROWS; t < last; t++)
    g->losses[t] = row_table[g->isa](g->logits + t * g->V, g->V, g->targets[t], g->scale);
}

void moe_cross_entropy(moe_execution ex, float *logits, const uint8_t *targets, int64_t T, int64_t V,
                       float scale, float *losses) {
  entropy_args g = {ex.isa, logits, targets, T, V, scale, losses};
  moe_parallel_for(ex.threads, ceil_div(T, BLOCK_ROWS), entropy_task, &g);
}
