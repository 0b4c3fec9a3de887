/* Back through the router: blocks of tokens are tasks. */
#include "layout.h"
#include "noise.h"
#include <string.h>

#define TEMPLATE "../router_backward.inc.h"
#include "isa/foreach.h"

enum { TOKENS = 48 };

typedef void (*backward_fn)(const moe_router_rule *, int64_t, const float *, const int32_t *, const float *,
                            int64_t, int64_t, const moe_probability_gradients *, int64_t, float, float *,
                            float *);
static const backward_fn backward_table[MOE_ISA_COUNT] = ISA_TABLE(route_token_backward);

typedef struct {
  backward_fn backward;
  const moe_router_rule *rule;
  const float *logits;
  const int32_t *expert_ids;
  const float *weight_gradients;
  int64_t T, E, K;
  const moe_probability_gradients *losses;
  int64_t loss_count;
  float logsumexp_gradient;
  float *out;
  char *scratch; /* nine rows a thread, which moe_router_scratch_bytes covers with its block of 48 */
  size_t scratch_bytes;
} backward_args;

static void backward_block(void *context, int64_t block, int thread) {
  const backward_args *g = context;
  for (int64_t t = block * TOKENS; t < min64(g->T, (block + 1) * TOKENS); t++) {
    if (g->expert_ids[t * g->K] < 0)
      memset(g->out + t * g->E, 0, (size_t)g->E * sizeof(float));
    else
      g->backward(g->rule, t, g->logits + t * g->E, g->expert_ids + t * g->K, g->weight_gradients + t * g->K,
                  g->E, g->K, g->losses, g->loss_count, g->logsumexp_gradient, g->out + t * g->E,
                  (float *)(g->scratch + (size_t)thread * g->scratch_bytes));
  }
}

void moe_router_backward(moe_execution ex, const moe_router_rule *rule, const float *logits,
                         const int32_t *expert_ids, const float *weight_gradients, int64_t T, int64_t E,
                         int64_t K, const moe_probability_gradients *losses, int64_t loss_count,
                         float logsumexp_gradient, float *logit_gradients, void *scratch) {
  backward_args g = {.backward = backward_table[ex.isa],
                     .rule = rule,
                     .logits = logits,
                     .expert_ids = expert_ids,
                     .weight_gradients = weight_gradients,
                     .T = T,
                     .E = E,
                     .K = K,
                     .losses = losses,
                     .loss_count = loss_count,
                     .logsumexp_gradient = logsumexp_gradient,
                     .out = logit_gradients,
                     .scratch = scratch,
                     .scratch_bytes = align64((size_t)(9 * round_up(E, MOE_PANEL)) * sizeof(float))};
  moe_parallel_for(ex.threads, ceil_div(T, TOKENS), backward_block, &g);
}
