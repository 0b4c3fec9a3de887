/* RMSNorm: blocks of rows are tasks; of the gain's gradient, blocks of columns. */
#include "../layout.h"

#define TEMPLATE "../transformer/norm.inc.h"
#include "../isa/foreach.h"

enum { BLOCK_ROWS = 32, BLOCK_COLUMNS = 64 };

typedef void (*row_fn)(const float *, const float *, const float *, int64_t, float, float *, float *,
                       float *);
typedef void (*row_backward_fn)(const float *, const float *, const float *, int64_t, float, float *);
typedef void (*gain_fn)(const float *, const float *, const float *, int64_t, int64_t, int64_t, int64_t,
                        float *);
static const row_fn row_table[MOE_ISA_COUNT] = ISA_TABLE(norm_row);
static const row_backward_fn row_backward_table[MOE_ISA_COUNT] = ISA_TABLE(norm_row_backward);
static const gain_fn gain_table[MOE_ISA_COUNT] = ISA_TABLE(norm_gain_columns);

typedef struct {
  moe_isa isa;
  moe_norm norm;
  const float *x, *addend, *dy, *inverse;
  float *sum, *y, *inverse_out, *dx, *dgain;
} norm_args;

static void forward_task(void *context, int64_t task, int thread) {
  (void)thread;
  const norm_args *g = context;
  const int64_t last = min64(g->norm.T, (task + 1) * BLOCK_ROWS);
  for (int64_t t = task * BLOCK_ROWS; t < last; t++)
    row_table[g->isa](g->x + t * g->norm.D, g->addend ? g->addend + t * g->norm.D : NULL, g->norm.gain,
                      g->norm.D, g->norm.epsilon, g->sum + t * g->norm.D, g->y + t * g->norm.D,
                      g->inverse_out + t);
}

void moe_rms_norm(moe_execution ex, moe_norm norm, const float *x, const float *addend, float *sum, float *y,
                  float *inverse) {
  norm_args g = {
      .isa = ex.isa, .norm = norm, .x = x, .addend = addend, .sum = sum, .y = y, .inverse_out = inverse};
  moe_parallel_for(ex.threads, ceil_div(norm.T, BLOCK_ROWS), forward_task, &g);
}

static void backward_task(void *context, int64_t task, int thread) {
  (void)thread;
  const norm_args *g = context;
  const int64_t row_tasks = g->dx ? ceil_div(g->norm.T, BLOCK_ROWS) : 0;
  if (task >= row_tasks) {
    const int64_t first = (task - row_tasks) * BLOCK_COLUMNS;
    gain_table[g->isa](g->dy, g->x, g->inverse, g->norm.T, g->norm.D, first,
                       min64(g->norm.D, first + BLOCK_COLUMNS), g->dgain);
    return;
  }
  const int64_t last = min64(g->norm.T, (task + 1) * BLOCK_ROWS);
  for (int64_t t = task * BLOCK_ROWS; t < last; t++)
    row_backward_table[g->isa](g->dy + t * g->norm.D, g->x + t * g->norm.D, g->norm.gain, g->norm.D,
                               g->inverse[t], g->dx + t * g->norm.D);
}

void moe_rms_norm_backward(moe_execution ex, moe_norm norm, const float *dy, const float *x,
                           const float *inverse, float *dx, float *dgain) {
  norm_args g = {.isa = ex.isa, .norm = norm, .x = x, .dy = dy, .inverse = inverse, .dx = dx, .dgain = dgain};
  const int64_t row_tasks = dx ? ceil_div(norm.T, BLOCK_ROWS) : 0;
  const int64_t column_tasks = dgain ? ceil_div(norm.D, BLOCK_COLUMNS) : 0;
  moe_parallel_for(ex.threads, row_tasks + column_tasks, backward_task, &g);
}
