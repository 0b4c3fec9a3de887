/* Scatter-combine: blocks of tokens are tasks. */
#include "layout.h"

#define TEMPLATE "../combine.inc.h"
#include "isa/foreach.h"

enum { TOKENS = 16 };

typedef void (*combine_fn)(const float *, const int32_t *, const float *, int64_t, int64_t, int64_t, int64_t,
                           const float *, const float *, int64_t, float *);
static const combine_fn combine_table[MOE_ISA_COUNT] = ISA_TABLE(combine_tokens);

typedef struct {
  combine_fn combine;
  const float *y;
  const int32_t *choice_row;
  const float *weights;
  int64_t T, K, D;
  const float *branch, *gates;
  int64_t gate_columns;
  float *out;
} combine_args;

static void combine_block(void *context, int64_t block, int thread) {
  (void)thread;
  const combine_args *g = context;
  g->combine(g->y, g->choice_row, g->weights, block * TOKENS, min64(g->T, (block + 1) * TOKENS), g->K, g->D,
             g->branch, g->gates, g->gate_columns, g->out);
}

void moe_combine(moe_execution ex, const float *y, const int32_t *choice_row, const float *weights, int64_t T,
                 int64_t K, int64_t D, const float *branch, const float *gates, int64_t gate_columns,
                 float *out) {
  combine_args g = {combine_table[ex.isa],    y,  choice_row, weights, T, K, D, branch, gates,
                    gates ? gate_columns : 0, out};
  moe_parallel_for(ex.threads, ceil_div(T, TOKENS), combine_block, &g);
}

typedef void (*backward_fn)(const float *, const float *, const int32_t *, int64_t, int64_t, int64_t, int64_t,
                            float *);
static const backward_fn backward_table[MOE_ISA_COUNT] = ISA_TABLE(combine_tokens_backward);

typedef struct {
  backward_fn backward;
  const float *dout, *y;
  const int32_t *choice_row;
  int64_t T, K, D;
  float *weight_gradients;
} backward_args;

static void backward_block(void *context, int64_t block, int thread) {
  (void)thread;
  const backward_args *g = context;
  g->backward(g->dout, g->y, g->choice_row, block * TOKENS, min64(g->T, (block + 1) * TOKENS), g->K, g->D,
              g->weight_gradients);
}

void moe_combine_backward(moe_execution ex, const float *dout, const float *y, const int32_t *choice_row,
                          int64_t T, int64_t K, int64_t D, float *weight_gradients) {
  backward_args g = {backward_table[ex.isa], dout, y, choice_row, T, K, D, weight_gradients};
  moe_parallel_for(ex.threads, ceil_div(T, TOKENS), backward_block, &g);
}
