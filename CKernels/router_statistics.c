/* Statistics of groups of tokens: chunks of a group are tasks, added up in integers, which have the same sum in any
 * order. */
#include "layout.h"
#include <string.h>

#define TEMPLATE "../router_statistics.inc.h"
#include "isa/foreach.h"

enum { TOKENS = 64 };

typedef void (*statistics_fn)(const moe_router_rule *, const float *, const int32_t *, int64_t, int64_t,
                              int64_t *, float *);
static const statistics_fn statistics_table[MOE_ISA_COUNT] = ISA_TABLE(add_token);

typedef struct {
  statistics_fn add;
  const moe_router_rule *rule;
  const float *logits;
  const int32_t *expert_ids;
  int64_t T, E, K, group_tokens, groups, chunks;
  const moe_router_statistics *out;
  char *scratch;
  size_t scratch_bytes; /* of one thread */
} statistics_args;

static size_t sums_bytes(int64_t E) { return align64((size_t)(3 * E) * sizeof(int64_t)); }

static size_t thread_bytes(int64_t E) {
  return sums_bytes(E) + align64((size_t)(3 * round_up(E, MOE_PANEL)) * sizeof(float));
}

size_t moe_router_statistics_scratch_bytes(moe_execution ex, int64_t E) {
  return (size_t)ex.threads * thread_bytes(E);
}

static void add_to(int64_t *to, int64_t value) {
  if (value) __atomic_fetch_add(to, value, __ATOMIC_RELAXED);
}

static void statistics_task(void *context, int64_t task, int thread) {
  const statistics_args *g = context;
  const int64_t group = task / g->chunks, first = task % g->chunks * TOKENS;
  int64_t *sums = (int64_t *)(g->scratch + (size_t)thread * g->scratch_bytes), tokens = 0;
  float *work = (float *)((char *)sums + sums_bytes(g->E));
  memset(sums, 0, (size_t)(3 * g->E) * sizeof *sums);
  for (int64_t i = first; i < first + TOKENS; i++) {
    const int64_t t = (i / g->group_tokens * g->groups + group) * g->group_tokens + i % g->group_tokens;
    if (t >= g->T) break;
    if (g->expert_ids[t * g->K] < 0) continue;
    g->add(g->rule, g->logits + t * g->E, g->expert_ids + t * g->K, g->E, g->K, sums, work);
    tokens++;
  }
  add_to(g->out->tokens + group, tokens);
  for (int64_t e = 0; e < g->E; e++) {
    add_to(g->out->counts + group * g->E + e, sums[e]);
    add_to(g->out->first_counts + group * g->E + e, sums[g->E + e]);
    add_to(g->out->probability_sums + group * g->E + e, sums[2 * g->E + e]);
  }
}

void moe_router_statistics_of(moe_execution ex, const moe_router_rule *rule, const float *logits,
                              const int32_t *expert_ids, int64_t T, int64_t E, int64_t K,
                              int64_t group_tokens, int64_t groups, const moe_router_statistics *out,
                              void *scratch) {
  memset(out->tokens, 0, (size_t)groups * sizeof(int64_t));
  int64_t *all[3] = {out->counts, out->first_counts, out->probability_sums};
  for (int i = 0; i < 3; i++) memset(all[i], 0, (size_t)(groups * E) * sizeof(int64_t));
  if (groups == 0) return;
  /* A group has a run of group_tokens in every round of all groups. */
  const int64_t rounds = ceil_div(T, group_tokens * groups);
  statistics_args g = {.add = statistics_table[ex.isa],
                       .rule = rule,
                       .logits = logits,
                       .expert_ids = expert_ids,
                       .T = T,
                       .E = E,
                       .K = K,
                       .group_tokens = group_tokens,
                       .groups = groups,
                       .chunks = ceil_div(rounds * group_tokens, TOKENS),
                       .out = out,
                       .scratch = scratch,
                       .scratch_bytes = thread_bytes(E)};
  moe_parallel_for(ex.threads, groups * g.chunks, statistics_task, &g);
}
