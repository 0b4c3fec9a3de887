/* The router's backward pass: blocks of tokens are tasks. */
#include "layout.h"
#include "noise.h"
#include "normalization.h"
#include <string.h>

enum {
  /* Tokens of a task. */
  TOKENS = 48,
  /* Rows [E'] that one token's gradients take. */
  ROWS_OF_WORK = 10
};

#define TEMPLATE "../router_backward.inc.h"
#include "isa/foreach.h"

typedef void (*backward_fn)(const moe_router_rule *, const moe_routes *, int64_t, const float *,
                            const moe_router_losses *, float *, float *);
static const backward_fn backward_table[MOE_ISA_COUNT] = ISA_TABLE(route_token_backward);

typedef struct {
  moe_isa isa;
  const moe_router_rule *rule;
  const moe_routes *routes;
  const float *weight_gradients;
  const moe_router_losses *losses;
  float *out;
  char *scratch;
  size_t scratch_bytes; /* of one thread */
} backward_args;

static size_t thread_bytes(int64_t E) {
  return align_line((size_t)(ROWS_OF_WORK * round_up(E, MOE_PANEL)) * sizeof(float));
}

size_t moe_router_backward_scratch_bytes(moe_execution ex, int64_t E) {
  return (size_t)ex.threads * thread_bytes(E);
}

static void backward_block(void *context, int64_t block, int thread) {
  const backward_args *g = context;
  const int64_t E = g->routes->E, last = min64(g->routes->T, (block + 1) * TOKENS);
  for (int64_t t = block * TOKENS; t < last; t++) {
    if (g->routes->expert_ids[t * g->routes->K] < 0)
      memset(g->out + t * E, 0, (size_t)E * sizeof(float));
    else
      backward_table[g->isa](g->rule, g->routes, t, g->weight_gradients, g->losses, g->out,
                             (float *)(g->scratch + (size_t)thread * g->scratch_bytes));
  }
}

void moe_router_backward(moe_execution ex, const moe_router_rule *rule, const moe_routes *routes,
                         const float *weight_gradients, const moe_router_losses *losses,
                         float *logit_gradients, void *scratch) {
  backward_args g = {.isa = ex.isa,
                     .rule = rule,
                     .routes = routes,
                     .weight_gradients = weight_gradients,
                     .losses = losses,
                     .out = logit_gradients,
                     .scratch = scratch,
                     .scratch_bytes = thread_bytes(routes->E)};
  moe_parallel_for(ex.threads, ceil_div(routes->T, TOKENS), backward_block, &g);
}
