/* Fused router: blocks of tokens are tasks; each thread counts for itself, in integers. */
#include "layout.h"
#include "noise.h"
#include <stdatomic.h>
#include <string.h>

#define TEMPLATE "../router.inc.h"
#include "isa/foreach.h"

/* Tokens of a task: four tiles of AVX-512, so that the router's weights are read from L2 once for 48 tokens.
 */
enum { TOKENS = 48 };

typedef int64_t (*route_fn)(const moe_router_rule *, const float *, const float *, int64_t, int64_t, int64_t,
                            const float *, const float *, const float *, const uint8_t *, int64_t, int64_t,
                            const moe_router_output *, int64_t *, float *);
static const route_fn route_table[MOE_ISA_COUNT] = ISA_TABLE(route_block);

typedef struct {
  route_fn route;
  const moe_router_rule *rule;
  const float *x, *logits;
  int64_t T, D;
  const float *panels, *bias, *selection_bias;
  const uint8_t *mask;
  int64_t E, K;
  const moe_router_output *out;
  char *scratch;
  size_t scratch_bytes; /* of one thread */
  _Atomic int64_t bad;  /* the first token that could not be ranked; T where there is none */
} router_args;

static size_t counts_bytes(int64_t E) { return align64((size_t)(3 * E) * sizeof(int64_t)); }

/* Counts, then a row of logits, four rows of work, the sums of a block and its tiles of 32 chunks. */
static size_t thread_bytes(moe_isa isa, int64_t E) {
  const int64_t MR = moe_tile_rows(isa), padded = round_up(E, MOE_PANEL);
  const int64_t floats = padded * (1 + 4 + TOKENS + MR) + round_up(TOKENS, MR) * 32 * 16;
  return counts_bytes(E) + align64((size_t)floats * sizeof(float));
}

size_t moe_router_scratch_bytes(moe_execution ex, int64_t D, int64_t E) {
  (void)D;
  return (size_t)ex.threads * thread_bytes(ex.isa, E);
}

static void router_task(void *context, int64_t block, int thread) {
  router_args *g = context;
  int64_t *counts = (int64_t *)(g->scratch + (size_t)thread * g->scratch_bytes);
  const int64_t first = block * TOKENS;
  const int64_t bad = g->route(g->rule, g->x, g->logits, first, min64(TOKENS, g->T - first), g->D, g->panels,
                               g->bias, g->selection_bias, g->mask, g->E, g->K, g->out, counts,
                               (float *)((char *)counts + counts_bytes(g->E)));
  int64_t seen = atomic_load(&g->bad);
  while (bad >= 0 && bad < seen && !atomic_compare_exchange_weak(&g->bad, &seen, bad)) {
  }
}

static int64_t run(moe_execution ex, router_args *g) {
  g->route = route_table[ex.isa];
  g->scratch_bytes = thread_bytes(ex.isa, g->E);
  atomic_init(&g->bad, g->T);
  for (int i = 0; i < ex.threads; i++)
    memset(g->scratch + (size_t)i * g->scratch_bytes, 0, counts_bytes(g->E));
  moe_parallel_for(ex.threads, ceil_div(g->T, TOKENS), router_task, g);

  int64_t *all[3] = {g->out->counts, g->out->first_counts, g->out->probability_sums};
  for (int j = 0; j < 3; j++) {
    if (!all[j]) continue;
    memset(all[j], 0, (size_t)g->E * sizeof(int64_t));
    for (int i = 0; i < ex.threads; i++) {
      const int64_t *counts = (const int64_t *)(g->scratch + (size_t)i * g->scratch_bytes) + j * g->E;
      for (int64_t e = 0; e < g->E; e++) all[j][e] += counts[e];
    }
  }
  const int64_t bad = atomic_load(&g->bad);
  return bad < g->T ? bad : -1;
}

int64_t moe_router(moe_execution ex, const moe_router_rule *rule, const float *x, int64_t T, int64_t D,
                   const float *panels, const float *bias, const float *selection_bias, const uint8_t *mask,
                   int64_t E, int64_t K, const moe_router_output *out, void *scratch) {
  router_args g = {.rule = rule,
                   .x = x,
                   .T = T,
                   .D = D,
                   .panels = panels,
                   .bias = bias,
                   .selection_bias = selection_bias,
                   .mask = mask,
                   .E = E,
                   .K = K,
                   .out = out,
                   .scratch = scratch};
  return run(ex, &g);
}

int64_t moe_router_from_logits(moe_execution ex, const moe_router_rule *rule, const float *logits, int64_t T,
                               const float *selection_bias, const uint8_t *mask, int64_t E, int64_t K,
                               const moe_router_output *out, void *scratch) {
  router_args g = {.rule = rule,
                   .logits = logits,
                   .T = T,
                   .selection_bias = selection_bias,
                   .mask = mask,
                   .E = E,
                   .K = K,
                   .out = out,
                   .scratch = scratch};
  return run(ex, &g);
}
