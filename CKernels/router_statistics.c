/* Statistics of groups of tokens: runs of a group's tokens are tasks. Their sums are integers, which are the same in any
 * order. */
#include "layout.h"
#include <string.h>

#define TEMPLATE "../router_statistics.inc.h"
#include "isa/foreach.h"

/* Tokens of a task. */
enum { TOKENS = 64 };

typedef void (*statistics_fn)(const moe_router_rule *, const moe_routes *, int64_t, int64_t *, float *);
static const statistics_fn statistics_table[MOE_ISA_COUNT] = ISA_TABLE(add_token);

typedef struct {
  moe_isa isa;
  const moe_router_rule *rule;
  const moe_routes *routes;
  moe_token_grouping grouping;
  int64_t chunks; /* tasks of a group */
  const moe_router_statistics *out;
  char *scratch;
  size_t scratch_bytes; /* of one thread */
} statistics_args;

static size_t sums_bytes(int64_t E) { return align_line((size_t)(3 * E) * sizeof(int64_t)); }

static size_t thread_bytes(int64_t E) {
  return sums_bytes(E) + align_line((size_t)(3 * round_up(E, MOE_PANEL)) * sizeof(float));
}

size_t moe_router_statistics_scratch_bytes(moe_execution ex, int64_t E) {
  return (size_t)ex.threads * thread_bytes(E);
}

static void add_to(int64_t *to, int64_t value) {
  if (value) __atomic_fetch_add(to, value, __ATOMIC_RELAXED);
}

static void statistics_task(void *context, int64_t task, int thread) {
  const statistics_args *g = context;
  const moe_routes *routes = g->routes;
  const int64_t E = routes->E, run = g->grouping.run_length;
  const int64_t group = task / g->chunks, first = task % g->chunks * TOKENS;
  int64_t *sums = (int64_t *)(g->scratch + (size_t)thread * g->scratch_bytes), tokens = 0;
  float *work = (float *)((char *)sums + sums_bytes(E));
  memset(sums, 0, (size_t)(3 * E) * sizeof *sums);
  for (int64_t i = first; i < first + TOKENS; i++) {
    const int64_t t = (i / run * g->grouping.groups + group) * run + i % run;
    if (t >= routes->T) break;
    if (routes->expert_ids[t * routes->K] < 0) continue;
    statistics_table[g->isa](g->rule, routes, t, sums, work);
    tokens++;
  }
  add_to(g->out->tokens + group, tokens);
  for (int64_t e = 0; e < E; e++) {
    add_to(g->out->counts + group * E + e, sums[e]);
    add_to(g->out->first_counts + group * E + e, sums[E + e]);
    add_to(g->out->probability_sums + group * E + e, sums[2 * E + e]);
  }
}

void moe_router_statistics_of(moe_execution ex, const moe_router_rule *rule, const moe_routes *routes,
                              moe_token_grouping grouping, const moe_router_statistics *out, void *scratch) {
  const int64_t groups = grouping.groups;
  memset(out->tokens, 0, (size_t)groups * sizeof(int64_t));
  int64_t *all[3] = {out->counts, out->first_counts, out->probability_sums};
  for (int i = 0; i < 3; i++) memset(all[i], 0, (size_t)(groups * routes->E) * sizeof(int64_t));
  if (groups == 0) return;
  /* A group has a run of tokens in every round of all groups. */
  const int64_t rounds = ceil_div(routes->T, grouping.run_length * groups);
  statistics_args g = {.isa = ex.isa,
                       .rule = rule,
                       .routes = routes,
                       .grouping = grouping,
                       .chunks = ceil_div(rounds * grouping.run_length, TOKENS),
                       .out = out,
                       .scratch = scratch,
                       .scratch_bytes = thread_bytes(routes->E)};
  moe_parallel_for(ex.threads, groups * g.chunks, statistics_task, &g);
}
