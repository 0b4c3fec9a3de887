/* Rotary positions: blocks of rows are tasks. The softmax of one head's scores runs on the calling thread, as a
 * step of the caller's task. */
#include "../layout.h"

#define TEMPLATE "../transformer/attention.inc.h"
#include "../isa/foreach.h"

enum { BLOCK_ROWS = 32 };

typedef void (*rotate_fn)(float *, int64_t, int64_t, const float *, const float *, float);
typedef void (*causal_fn)(float *, int64_t, int64_t, float);
typedef void (*causal_backward_fn)(const float *, float *, int64_t, int64_t, float);
static const rotate_fn rotate_table[MOE_ISA_COUNT] = ISA_TABLE(rotate_heads);
static const causal_fn causal_table[MOE_ISA_COUNT] = ISA_TABLE(causal_row);
static const causal_backward_fn causal_backward_table[MOE_ISA_COUNT] = ISA_TABLE(causal_row_backward);

typedef struct {
  moe_isa isa;
  const moe_rotary *rotary;
  float *x;
  int64_t T, stride;
  float sign;
} rotate_args;

static void rotate_task(void *context, int64_t task, int thread) {
  (void)thread;
  const rotate_args *g = context;
  const int64_t last = min64(g->T, (task + 1) * BLOCK_ROWS);
  for (int64_t t = task * BLOCK_ROWS; t < last; t++) {
    const moe_rotary *r = g->rotary;
    const int64_t position = r->first_position + t % r->S, half = r->head_size / 2;
    rotate_table[g->isa](g->x + t * g->stride, r->heads, half, r->cosines + position * half,
                         r->sines + position * half, g->sign);
  }
}

void moe_rotate(moe_execution ex, const moe_rotary *rotary, float *x, int64_t T, int64_t stride, bool back) {
  rotate_args g = {.isa = ex.isa, .rotary = rotary, .x = x, .T = T, .stride = stride, .sign = back ? -1 : 1};
  moe_parallel_for(ex.threads, ceil_div(T, BLOCK_ROWS), rotate_task, &g);
}

void moe_causal_softmax(moe_isa isa, float *scores, int64_t rows, int64_t first, int64_t width, float scale) {
  for (int64_t r = 0; r < rows; r++) causal_table[isa](scores + r * width, first + r, width, scale);
}

void moe_causal_softmax_backward(moe_isa isa, const float *p, float *dp, int64_t rows, int64_t first,
                                 int64_t width, float scale) {
  for (int64_t r = 0; r < rows; r++)
    causal_backward_table[isa](p + r * width, dp + r * width, first + r, width, scale);
}
