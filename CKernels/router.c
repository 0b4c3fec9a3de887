/* Fused router: blocks of tokens are tasks; each thread counts for itself, in integers. */
#include "gemm.h"
#include "noise.h"
#include "normalization.h"
#include <stdatomic.h>
#include <string.h>

enum {
  /* Tokens of a task: four tiles of AVX-512, so that the router's weights are read from L2 once for 48 tokens. */
  ROUTER_TOKENS = 48,
  /* Chunks of D that are multiplied at a time: their rows, 96 KiB, stay in L2. */
  ROUTER_CHUNKS = 32
};

#define TEMPLATE "../router.inc.h"
#include "isa/foreach.h"

typedef int64_t (*route_fn)(const moe_router_rule *, const moe_router_input *, int64_t, int64_t,
                            const moe_router_output *, int64_t *, float *);
static const route_fn route_table[MOE_ISA_COUNT] = ISA_TABLE(route_block);

typedef struct {
  moe_isa isa;
  const moe_router_rule *rule;
  const moe_router_input *input;
  const moe_router_output *out;
  char *scratch;
  size_t scratch_bytes; /* of one thread */
  _Atomic int64_t bad;  /* the first token that could not be ranked, or T */
} router_args;

static size_t counts_bytes(int64_t E) { return align_line((size_t)(3 * E) * sizeof(int64_t)); }

/* Counts, then a row of logits, four rows of work, the sums of a block and its tiles of ROUTER_CHUNKS chunks. */
static size_t thread_bytes(moe_isa isa, int64_t E) {
  const int64_t MR = moe_tile_rows(isa), padded = round_up(E, MOE_PANEL);
  const int64_t floats =
      padded * (1 + 4 + ROUTER_TOKENS + MR) + round_up(ROUTER_TOKENS, MR) * ROUTER_CHUNKS * LINE_FLOATS;
  return counts_bytes(E) + align_line((size_t)floats * sizeof(float));
}

size_t moe_router_scratch_bytes(moe_execution ex, int64_t E) {
  return (size_t)ex.threads * thread_bytes(ex.isa, E);
}

static void router_task(void *context, int64_t block, int thread) {
  router_args *g = context;
  int64_t *counts = (int64_t *)(g->scratch + (size_t)thread * g->scratch_bytes);
  const int64_t first = block * ROUTER_TOKENS;
  const int64_t bad =
      route_table[g->isa](g->rule, g->input, first, min64(ROUTER_TOKENS, g->input->T - first), g->out, counts,
                          (float *)((char *)counts + counts_bytes(g->input->E)));
  int64_t seen = atomic_load(&g->bad);
  while (bad >= 0 && bad < seen && !atomic_compare_exchange_weak(&g->bad, &seen, bad)) {
  }
}

int64_t moe_router(moe_execution ex, const moe_router_rule *rule, const moe_router_input *input,
                   const moe_router_output *out, void *scratch) {
  const int64_t T = input->T, E = input->E;
  router_args g = {.isa = ex.isa,
                   .rule = rule,
                   .input = input,
                   .out = out,
                   .scratch = scratch,
                   .scratch_bytes = thread_bytes(ex.isa, E)};
  atomic_init(&g.bad, T);
  for (int i = 0; i < ex.threads; i++) memset(g.scratch + (size_t)i * g.scratch_bytes, 0, counts_bytes(E));
  moe_parallel_for(ex.threads, ceil_div(T, ROUTER_TOKENS), router_task, &g);

  int64_t *all[3] = {out->counts, out->first_counts, out->probability_sums};
  for (int j = 0; j < 3; j++) {
    if (!all[j]) continue;
    memset(all[j], 0, (size_t)E * sizeof(int64_t));
    for (int i = 0; i < ex.threads; i++) {
      const int64_t *counts = (const int64_t *)(g.scratch + (size_t)i * g.scratch_bytes) + j * E;
      for (int64_t e = 0; e < E; e++) all[j][e] += counts[e];
    }
  }
  const int64_t bad = atomic_load(&g.bad);
  return bad < T ? bad : -1;
}
