/* The sums that the losses of groups of tokens need: one token's part of its group's sums.
 *
 * SHAPES       logits [E], expert_ids [K] → counts [E], first choices [E], probability sums [E]
 * DEFINITION   counts[ids[k]] += 1; first[ids[0]] += 1; sums[e] += round(2^30·P[e]), P = softmax(l) or σ(l)/Σσ(l)
 * REGULARITIES The probabilities have the bits that the router added up, so that the sums of all groups are its own.
 * EXAMPLE      DeepSeek-V3's loss of sequences: 4096 tokens a group, E 256, K 8. */

#include "math.inc.h"
#include "probabilities.inc.h"

/* Adds token t to `sums` (counts, first counts and probability sums, each [E]). `scratch` holds 3·E' floats. */
static void KERNEL(add_token)(const moe_router_rule *rule, const moe_routes *routes, int64_t t, int64_t *sums,
                              float *scratch) {
  const int64_t E = routes->E, K = routes->K, padded = round_up(E, MOE_PANEL);
  const int32_t *ids = routes->expert_ids + t * K;
  float *l = scratch, *score = l + padded, *p = score + padded, most = -INFINITY;
  memcpy(l, routes->logits + t * E, (size_t)E * sizeof *l);
  for (int64_t e = E; e < padded; e++) l[e] = -INFINITY;
  for (int64_t e = 0; e < E; e++) most = l[e] > most ? l[e] : most;
  KERNEL(loss_probabilities)(rule, l, E, padded, most, score, p);
  for (int64_t k = 0; k < K; k++)
    if (ids[k] >= 0) sums[ids[k]]++;
  if (ids[0] >= 0) sums[E + ids[0]]++;
  KERNEL(add_probabilities)(p, E, sums + 2 * E);
}
