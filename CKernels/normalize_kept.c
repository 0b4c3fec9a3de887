/* Normalisation after dropping: tokens are tasks of a block. */
#include "layout.h"
#include "normalization.h"

/* Tokens of a task. */
enum { TOKENS = 1024 };

typedef struct {
  const moe_router_rule *rule;
  int64_t T, K;
  const int32_t *choice_row;
  float *weights, *row_weight;
} normalize_args;

static void normalize_block(void *context, int64_t block, int thread) {
  (void)thread;
  const normalize_args *g = context;
  const int64_t K = g->K, last = min64(g->T, (block + 1) * TOKENS);
  for (int64_t t = block * TOKENS; t < last; t++) {
    float *weights = g->weights + t * K;
    const int32_t *rows = g->choice_row + t * K;
    for (int64_t k = 0; k < K; k++)
      if (rows[k] < 0) weights[k] = 0;
    const float divisor = weights_divisor(g->rule, weights, K);
    for (int64_t k = 0; k < K; k++) {
      weights[k] = weights[k] / divisor * g->rule->scale;
      if (rows[k] >= 0 && g->row_weight) g->row_weight[rows[k]] = weights[k];
    }
  }
}

void moe_normalize_kept(moe_execution ex, const moe_router_rule *rule, int64_t T, int64_t K,
                        const int32_t *choice_row, float *weights, float *row_weight) {
  normalize_args g = {rule, T, K, choice_row, weights, row_weight};
  moe_parallel_for(ex.threads, ceil_div(T, TOKENS), normalize_block, &g);
}
