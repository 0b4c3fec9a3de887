/* Expert choice: each expert takes the tokens of the largest scores.
 *
 * SHAPES       scores [T,E] → expert_ids [T,E], weights [T,E], slots [T,E]
 * DEFINITION   for scope, e: the `capacity` tokens of the largest scores[t][e], ties to the smaller t; slot = rank.
 *              Padding is never taken.
 *              for t: the experts that took it, the largest weight first, ties to the smaller e; weight = its score, or
 *              its score over the number of experts that took t
 * REGULARITIES Experts are tasks: each writes its own list. A token's list is short, so it is sorted by insertion.
 * EXAMPLE      Zhou et al. 2022: E 64, capacity 2·T/64. */
#include "../claims.h"
#include "../layout.h"
#include <math.h>
#include <string.h>

typedef struct {
  const float *scores;
  const uint8_t *mask;
  int64_t T, E, scope, capacity;
  claim *claims;  /* [E][scope] work of an expert */
  int32_t *taken; /* [scopes][E][capacity] tokens; −1 beyond the scope's */
} choice_args;

static void choose_tokens(void *context, int64_t e, int thread) {
  (void)thread;
  const choice_args *g = context;
  claim *claims = g->claims + e * g->scope;
  for (int64_t first = 0, s = 0; first < g->T; first += g->scope, s++) {
    const int64_t n = min64(g->scope, g->T - first);
    int32_t *taken = g->taken + (s * g->E + e) * g->capacity;
    int64_t real = 0;
    for (int64_t t = first; t < first + n; t++)
      if (!g->mask || g->mask[t]) claims[real++] = (claim){g->scores[t * g->E + e], (int32_t)t};
    sort_claims(claims, real);
    for (int64_t i = 0; i < g->capacity; i++) taken[i] = i < real ? claims[i].index : -1;
  }
}

static int64_t scope_count(int64_t T, int64_t scope) { return T > 0 ? ceil_div(T, scope) : 0; }

size_t moe_expert_choice_scratch_bytes(int64_t T, int64_t E, moe_capacity_rule rule) {
  return align_line((size_t)(E * rule.scope) * sizeof(claim)) +
         align_line((size_t)(scope_count(T, rule.scope) * E * rule.capacity) * sizeof(int32_t));
}

void moe_expert_choice(moe_execution ex, const float *scores, const uint8_t *mask, int64_t T, int64_t E,
                       moe_capacity_rule rule, bool shares, const moe_expert_choices *out, void *scratch) {
  choice_args g = {.scores = scores,
                   .mask = mask,
                   .T = T,
                   .E = E,
                   .scope = rule.scope,
                   .capacity = rule.capacity,
                   .claims = scratch,
                   .taken =
                       (int32_t *)((char *)scratch + align_line((size_t)(E * rule.scope) * sizeof(claim)))};
  moe_parallel_for(ex.threads, E, choose_tokens, &g);

  int64_t *count = out->counts;
  memset(count, 0, (size_t)E * sizeof *count);
  for (int64_t i = 0; i < T * E; i++) out->expert_ids[i] = -1, out->slots[i] = -1, out->weights[i] = 0;
  for (int64_t s = 0; s < scope_count(T, g.scope); s++)
    for (int64_t e = 0; e < E; e++)
      for (int64_t slot = 0; slot < g.capacity; slot++) {
        const int32_t t = g.taken[(s * E + e) * g.capacity + slot];
        if (t < 0) break;
        const float weight = scores[t * E + e];
        int32_t *ids = out->expert_ids + t * E, *slots = out->slots + t * E;
        float *weights = out->weights + t * E;
        int64_t j = 0;
        while (ids[j] >= 0) j++;
        for (; j > 0 && weights[j - 1] < weight; j--)
          ids[j] = ids[j - 1], slots[j] = slots[j - 1], weights[j] = weights[j - 1];
        ids[j] = (int32_t)e, slots[j] = (int32_t)slot, weights[j] = weight;
        count[e]++;
      }
  for (int64_t t = 0; shares && t < T; t++) {
    int64_t n = 0;
    while (n < E && out->expert_ids[t * E + n] >= 0) n++;
    for (int64_t j = 0; j < n; j++) out->weights[t * E + j] /= (float)n;
  }
}

/* ---- softmax over tokens -------------------------------------------------------------------------------- */

typedef struct {
  const float *logits;
  const uint8_t *mask;
  int64_t T, E, scope;
  float *scores;
} column_args;

static void softmax_column(void *context, int64_t e, int thread) {
  (void)thread;
  const column_args *g = context;
  for (int64_t first = 0; first < g->T; first += g->scope) {
    const int64_t last = min64(first + g->scope, g->T);
    float most = -INFINITY;
    double sum = 0;
    for (int64_t t = first; t < last; t++)
      if ((!g->mask || g->mask[t]) && g->logits[t * g->E + e] > most) most = g->logits[t * g->E + e];
    for (int64_t t = first; t < last; t++) {
      const bool counts = (!g->mask || g->mask[t]) && most > -INFINITY;
      const float power = counts ? expf(g->logits[t * g->E + e] - most) : 0;
      g->scores[t * g->E + e] = power;
      sum += power;
    }
    for (int64_t t = first; t < last; t++)
      g->scores[t * g->E + e] = sum > 0 ? (float)(g->scores[t * g->E + e] / sum) : 0;
  }
}

void moe_softmax_over_tokens(moe_execution ex, const float *logits, const uint8_t *mask, int64_t T, int64_t E,
                             int64_t scope, float *scores) {
  column_args g = {logits, mask, T, E, scope, scores};
  moe_parallel_for(ex.threads, E, softmax_column, &g);
}
