/* Balanced assignment: an auction gives every expert an equal number of tokens.
 *
 * SHAPES       logits [T,E] → expert_ids [T]
 * DEFINITION   BASE (Lewis et al. 2021, fairseq's balanced_assignment): experts bid for tokens, round by round. An expert
 *              bids for the q = T/E tokens of its largest values, as much as they exceed its (q+1)-th, plus a step; a token
 *              goes to the highest bid, whose amount becomes part of its cost; values are logits less costs. It ends when
 *              every token has a bid. After 100 rounds a token's owner no longer keeps it at the highest value
 * REGULARITIES Additions, subtractions and comparisons in float32, in one thread: the bits are those of the definition.
 *              Where T is no multiple of E, tokens that no expert wants fill up; fairseq never ends then. Ties go to the
 *              smaller token and to the smaller expert. After BALANCED_ROUNDS the rest goes to experts with room.
 * EXAMPLE      T 4096, E 8: 5 to 30 rounds. */
#include "../claims.h"
#include "../layout.h"
#include <math.h>
#include <string.h>

enum { BALANCED_ROUNDS = 10000, KEEPING_ROUNDS = 100 };

typedef struct {
  int64_t n, E, share; /* tokens with the filling ones, experts, tokens of an expert */
  float *worth, *value, *bids;
  float *cost, *high;
  int32_t *winner, *held;
  claim *claims;
} auction;

static int64_t filled(int64_t T, int64_t E) { return ceil_div(T, E) * E; }

size_t moe_balanced_scratch_bytes(int64_t T, int64_t E) {
  const int64_t n = filled(T, E);
  return align_line((size_t)(3 * E * n + 2 * n) * sizeof(float)) +
         align_line((size_t)(3 * n) * sizeof(int32_t)) + align_line((size_t)n * sizeof(claim));
}

/* Writes the bids of expert e, and its `share` best tokens first into the claims. */
static void bid(auction *a, int64_t e, float step) {
  const float *value = a->value + e * a->n;
  float *bids = a->bids + e * a->n;
  memset(bids, 0, (size_t)a->n * sizeof *bids);
  for (int64_t t = 0; t < a->n; t++) a->claims[t] = (claim){value[t], (int32_t)t};
  sort_claims(a->claims, a->n);
  for (int64_t i = 0; i < a->share; i++)
    bids[a->claims[i].index] = a->claims[i].key - a->claims[a->share].key + step;
}

/* Runs the rounds; returns whether every token has an owner in `winner`. */
static bool run(auction *a, float step, float best) {
  for (int64_t round = 0; round < BALANCED_ROUNDS; round++) {
    for (int64_t e = 0; e < a->E; e++) bid(a, e, step);
    if (round > 0 && round < KEEPING_ROUNDS)
      for (int64_t t = 0; t < a->n; t++)
        if (a->held[t] >= 0) a->bids[a->held[t] * a->n + t] = step;
    bool all = true;
    for (int64_t t = 0; t < a->n; t++) {
      a->high[t] = 0, a->winner[t] = 0;
      for (int64_t e = 0; e < a->E; e++)
        if (a->bids[e * a->n + t] > a->high[t]) a->high[t] = a->bids[e * a->n + t], a->winner[t] = (int32_t)e;
      all &= a->high[t] > 0;
    }
    if (all) {
      /* Each expert owns its best tokens, which cover all. */
      for (int64_t e = 0; e < a->E; e++) {
        bid(a, e, step);
        for (int64_t i = 0; i < a->share; i++) a->winner[a->claims[i].index] = (int32_t)e;
      }
      return true;
    }
    for (int64_t t = 0; t < a->n; t++) a->cost[t] = a->cost[t] + a->high[t];
    for (int64_t e = 0; e < a->E; e++)
      for (int64_t t = 0; t < a->n; t++) a->value[e * a->n + t] = a->worth[e * a->n + t] - a->cost[t];
    for (int64_t t = 0; t < a->n; t++) {
      a->held[t] = a->high[t] > 0 ? a->winner[t] : -1;
      if (a->held[t] < 0) continue;
      const int64_t at = a->held[t] * a->n + t;
      a->value[at] = round < KEEPING_ROUNDS ? best : a->worth[at];
    }
  }
  return false;
}

/* Gives tokens in their order to the expert of the largest logit that has room. */
static void fill_up(auction *a, int64_t tokens) {
  int64_t *room = (int64_t *)(void *)a->value; /* the values are no longer needed */
  for (int64_t e = 0; e < a->E; e++) room[e] = a->share;
  for (int64_t t = 0; t < tokens; t++) {
    int64_t best = -1;
    for (int64_t e = 0; e < a->E; e++)
      if (room[e] > 0 && (best < 0 || a->worth[e * a->n + t] > a->worth[best * a->n + t])) best = e;
    a->winner[t] = (int32_t)best;
    room[best]--;
  }
}

void moe_balanced(const float *logits, const uint8_t *mask, int64_t T, int64_t E, int32_t *expert_ids,
                  void *scratch) {
  int64_t tokens = 0;
  float least = INFINITY, best = -INFINITY;
  for (int64_t t = 0; t < T; t++) {
    expert_ids[t] = -1;
    if (mask && !mask[t]) continue;
    tokens++;
    for (int64_t e = 0; e < E; e++) {
      /* −∞ has no value to bid with: it counts as the least finite logit. */
      const float l = logits[t * E + e];
      if (l > -INFINITY && l < least) least = l;
      if (l > best) best = l;
    }
  }
  if (tokens == 0) return;
  const int64_t n = filled(tokens, E);
  float *floats = scratch;
  auction a = {
      .n = n, .E = E, .share = n / E, .worth = floats, .value = floats + E * n, .bids = floats + 2 * E * n};
  a.cost = a.bids + E * n, a.high = a.cost + n;
  a.winner = (int32_t *)((char *)scratch + align_line((size_t)(3 * E * n + 2 * n) * sizeof(float)));
  a.held = a.winner + n;
  int32_t *token = a.held + n;
  a.claims = (claim *)((char *)a.winner + align_line((size_t)(3 * n) * sizeof(int32_t)));
  int64_t i = 0;
  for (int64_t t = 0; t < T; t++)
    if (!mask || mask[t]) token[i++] = (int32_t)t;
  for (int64_t e = 0; e < E; e++)
    for (int64_t j = 0; j < n; j++) {
      const float l = j < tokens ? logits[token[j] * E + e] : least;
      a.worth[e * n + j] = a.value[e * n + j] = l > -INFINITY ? l : least;
    }
  memset(a.cost, 0, (size_t)n * sizeof *a.cost);
  for (int64_t j = 0; j < n; j++) a.held[j] = -1;
  const float spread = (best - least) / 50;
  if (E == 1)
    memset(a.winner, 0, (size_t)n * sizeof *a.winner);
  else if (!run(&a, spread > 1e-4f ? spread : 1e-4f, best))
    fill_up(&a, tokens);
  for (int64_t j = 0; j < tokens; j++) expert_ids[token[j]] = a.winner[j];
}
