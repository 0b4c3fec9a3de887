/* Fused router: one pass over x gives logits, scores, top-k, counts, probability sums and logsumexp.
 *
 * SHAPES       x [T,D], router [E,D] as fp32 panels → expert_ids [T,K], weights [T,K]
 * DEFINITION   for t: l[e] = Σ_d x[t][d]·router[e][d] + bias[e];  s = softmax(l) or σ(l) or l
 *              choose k times the largest s[e] + selection_bias[e] not chosen yet, ties to the smaller e
 *              weights = s of the chosen, normalised, times scale; a rule can draw the first or second choice instead,
 *              or leave the second out
 * REGULARITIES E is 8 to 512, K 1 to 10, D 512 to 8192: the product takes nearly all the time, and x is read from
 *              memory once because a block of tokens is multiplied by all experts, k block by k block, and
 *              routed while its logits are in L1.
 * EXAMPLE      DeepSeek-V3: D 7168, E 256, K 8 from the best 4 of 8 groups. */

#include "formats/float32.h"
#include "gemm_tile.inc.h"
#include "math.inc.h"
#include "probabilities.inc.h"

/* The score of an expert that cannot be chosen. */
#define NONE (-INFINITY)

/* Returns the first index of the largest of s [E'], and that value; E' is E rounded up to MOE_PANEL, padded with −∞. */
INLINE int64_t KERNEL(argmax)(const float *s, int64_t E, float *value) {
  vf most = vset1(NONE);
  for (int64_t e = 0; e < E; e += W) most = vmax(most, vload(s + e));
  *value = vreduce_max(most);
  for (int64_t e = 0; e < E; e += W) {
    const int lane = vfirst_eq(vload(s + e), *value);
    if (lane < W) return e + lane;
  }
  return 0;
}

/* Returns the sum of the `count` largest of s [size]; `copy` holds [size]. */
static float KERNEL(sum_of_largest)(const float *s, int64_t size, int64_t count, float *copy) {
  float sum = 0;
  memcpy(copy, s, (size_t)size * sizeof *s);
  for (int64_t i = 0; i < count; i++) {
    int64_t best = 0;
    for (int64_t e = 1; e < size; e++)
      if (copy[e] > copy[best]) best = e;
    sum += copy[best], copy[best] = NONE;
  }
  return sum;
}

/* Gives the experts of groups that are not selected the rule's mask value. `group` holds E' floats. */
static void KERNEL(limit_groups)(const moe_router_rule *rule, int64_t E, float *s, float *group) {
  const int64_t size = E / rule->groups;
  if (rule->groups_selected == rule->groups) return;
  for (int64_t g = 0; g < rule->groups; g++) {
    if (rule->group_addends > 2) {
      group[g] = KERNEL(sum_of_largest)(s + g * size, size, rule->group_addends, group + rule->groups);
      continue;
    }
    float first = NONE, second = NONE;
    for (int64_t e = g * size; e < (g + 1) * size; e++) {
      if (s[e] > first)
        second = first, first = s[e];
      else if (s[e] > second)
        second = s[e];
    }
    group[g] = rule->group_addends == 0 ? 0 : rule->group_addends == 1 ? first : first + second;
  }
  /* A group is not selected if groups_selected others precede it: a higher score, or an equal one and a lower index. */
  for (int64_t g = 0; g < rule->groups; g++) {
    int32_t ahead = 0;
    for (int64_t o = 0; o < rule->groups; o++)
      ahead += group[o] > group[g] || (group[o] == group[g] && o < g);
    if (ahead < rule->groups_selected) continue;
    for (int64_t e = g * size; e < (g + 1) * size; e++) s[e] = rule->group_mask;
  }
}

/* Returns the weight of SparseMixer's choice: the softmax of the best remaining logit over those within 2·jitter of it, or 0
 * if no logit above −∞ remains. */
static float KERNEL(sparse_mixer_weight)(const float *logits, const float *remaining, int64_t E, float most,
                                         float jitter) {
  float sum = 0;
  for (int64_t e = 0; e < E; e++) {
    const float size = fabsf(logits[e]) > most ? fabsf(logits[e]) : most;
    if (remaining[e] > NONE && !((most - logits[e]) / size > 2 * jitter)) sum += expf(remaining[e] - most);
  }
  return sum > 0 ? 1 / sum : 0;
}

/* SparseMixer in training: returns the expert with the largest logit plus Gumbel noise among the experts that share the
 * choice, so that each is sampled with its share. `best` has the largest logit. The margin is that of the noisy logits. */
static int64_t KERNEL(sparse_mixer_sample)(const moe_router_rule *rule, const float *logits,
                                           const float *remaining, int64_t E, int64_t t, int64_t k,
                                           int64_t best, float *weight, float *margin) {
  const float most = logits[best];
  float sum = 0, first = NONE, second = NONE;
  int64_t sampled = best;
  for (int64_t e = 0; e < E; e++) {
    const float size = fabsf(logits[e]) > most ? fabsf(logits[e]) : most;
    if (!(remaining[e] > NONE) || (most - logits[e]) / size > 2 * rule->jitter) continue;
    sum += expf(logits[e] - most);
    const float noisy =
        logits[e] + noise_gumbel(rule->seed, rule->first_token + (uint64_t)t, k * (E + 1) + e);
    if (noisy > first)
      second = first, first = noisy, sampled = e;
    else if (noisy > second)
      second = noisy;
  }
  *weight = expf(logits[sampled] - most) / sum * (sampled == best ? 1 : heun_factor(rule, t, k, E));
  *margin = first - second;
  return sampled;
}

/* Returns the expert with the largest logit/temperature plus Gumbel noise among those that can still be chosen. The margin
 * is that of the noisy logits. */
static int64_t KERNEL(sample)(const moe_router_rule *rule, const float *logits, const float *remaining,
                              int64_t E, int64_t t, int64_t k, float *margin) {
  const float temperature = k == 0 ? rule->first_temperature : 1;
  float first = NONE, second = NONE;
  int64_t sampled = -1;
  for (int64_t e = 0; e < E; e++) {
    if (!(remaining[e] > NONE)) continue;
    const float noisy =
        logits[e] / temperature + noise_gumbel(rule->seed, rule->first_token + (uint64_t)t, k * (E + 1) + e);
    if (sampled < 0 || noisy > first)
      second = first, first = noisy, sampled = e;
    else if (noisy > second)
      second = noisy;
  }
  *margin = first == second ? 0 : first - second;
  return sampled;
}

/* Returns whether a rule takes the second expert of token t, whose weight is given. */
static bool KERNEL(takes_second)(const moe_router_rule *rule, int64_t t, int64_t E, float weight) {
  if (rule->second == MOE_SECOND_ABOVE) return weight > rule->second_threshold;
  if (rule->second != MOE_SECOND_RANDOM) return true;
  const float threshold = rule->second_threshold > 1e-9f ? rule->second_threshold : 1e-9f;
  return noise_uniform(rule->seed, rule->first_token + (uint64_t)t, E + 1 + E) < weight / threshold;
}

/* Routes token t, whose logits [E'] are padded with −∞, and adds it to `sums` (counts, first counts and probability sums,
 * each [E]). `scratch` holds 4·E' floats. Returns whether the logits could be ranked. */
static bool KERNEL(route_token)(const moe_router_rule *rule, const moe_router_input *input, int64_t t,
                                const float *logits, const moe_router_output *out, int64_t *sums,
                                float *scratch) {
  const float *selection_bias = input->selection_bias;
  const int64_t E = input->E, K = input->K, padded = round_up(E, MOE_PANEL);
  float *probability = scratch, *score = scratch + padded, *rank = scratch + 2 * padded;

  /* +∞ and NaN are not below +∞; −∞ is, and stands for an expert that cannot be chosen. */
  vf wrong = vset1(0);
  for (int64_t e = 0; e < padded; e += W)
    wrong = vmax(wrong, vselect_lt(vload(logits + e), vset1(INFINITY), vset1(0), vset1(1)));
  float most;
  KERNEL(argmax)(logits, padded, &most);
  if (vreduce_max(wrong) > 0 || most == NONE) return false;

  if (out->logits) memcpy(out->logits + t * E, logits, (size_t)E * sizeof *logits);
  const float logsumexp = KERNEL(loss_probabilities)(rule, logits, E, padded, most, score, probability);
  const bool separate = KERNEL(is_separate)(rule);
  const float *weighed = separate ? score : rule->scoring == MOE_SOFTMAX ? probability : logits;

  memcpy(rank, rule->scoring == MOE_SIGMOID_OF_SELECTED ? logits : weighed, (size_t)E * sizeof *rank);
  if (selection_bias)
    for (int64_t e = 0; e < E; e++) rank[e] += selection_bias[e];
  for (int64_t e = E; e < padded; e++) rank[e] = NONE;
  if (rule->groups > 0) KERNEL(limit_groups)(rule, E, rank, scratch + 3 * padded);

  int32_t *ids = out->expert_ids + t * K;
  float *weights = out->weights + t * K, last = 0, noisy_margin = 0;
  const bool sparse_mixer = rule->scoring == MOE_SPARSE_MIXER && rule->is_sampled;
  bool drawn = false; /* whether the last choice was drawn */
  for (int64_t k = 0; k < K; k++) {
    int64_t e = KERNEL(argmax)(rank, padded, &last);
    if (input->given_ids) {
      e = input->given_ids[t * K + k];
      last = e < 0 ? NONE : rank[e];
      ids[k] = (int32_t)e, weights[k] = e < 0 ? 0 : weighed[e];
      if (e >= 0) rank[e] = NONE;
      continue;
    }
    if (last == NONE) {
      /* Only experts of score −∞ are left, the chosen ones among them: take the lowest index not chosen. */
      bool taken = true;
      for (e = -1; taken;) {
        e++, taken = false;
        for (int64_t i = 0; i < k; i++) taken |= ids[i] == e;
      }
    }
    drawn = last > NONE && ((k == 0 && rule->first_temperature > 0) ||
                            (k == 1 && rule->second == MOE_SECOND_SAMPLED) || sparse_mixer);
    if (drawn && sparse_mixer) {
      e = KERNEL(sparse_mixer_sample)(rule, logits, rank, E, t, k, e, &weights[k], &noisy_margin);
    } else {
      if (drawn) e = KERNEL(sample)(rule, logits, rank, E, t, k, &noisy_margin);
      weights[k] = rule->scoring == MOE_SPARSE_MIXER
                       ? KERNEL(sparse_mixer_weight)(logits, rank, E, last, rule->jitter)
                       : weighed[e];
    }
    ids[k] = (int32_t)e;
    rank[e] = NONE;
  }
  if (out->margins) {
    float next;
    KERNEL(argmax)(rank, padded, &next);
    out->margins[t] = K == E || ids[0] < 0 ? INFINITY
                      : drawn              ? noisy_margin
                      : next == NONE       ? (last == NONE ? 0 : INFINITY)
                                           : last - next;
  }

  if (rule->scoring == MOE_SOFTMAX_OVER_SELECTED) {
    float best = NONE, sum = 0;
    for (int64_t k = 0; k < K; k++) best = ids[k] >= 0 && weights[k] > best ? weights[k] : best;
    for (int64_t k = 0; k < K; k++)
      sum += weights[k] = best == NONE || ids[k] < 0 ? 0 : expf(weights[k] - best);
    for (int64_t k = 0; k < K; k++) weights[k] = sum > 0 ? weights[k] / sum : 0;
  }
  if (out->gates) memcpy(out->gates + t * K, weights, (size_t)K * sizeof *weights);
  if (!rule->normalizes_kept) {
    const float divisor = weights_divisor(rule, weights, K);
    for (int64_t k = 0; k < K; k++) weights[k] = weights[k] / divisor * rule->scale;
  }
  if (K > 1 && !KERNEL(takes_second)(rule, t, E, weights[1])) ids[1] = MOE_NOT_TAKEN(ids[1]), weights[1] = 0;

  if (out->logsumexp) out->logsumexp[t] = logsumexp;
  if (out->scores) memcpy(out->scores + t * E, separate ? score : probability, (size_t)E * 4);
  int64_t *counts = sums, *first_counts = sums + E, *probability_sums = sums + 2 * E;
  for (int64_t k = 0; k < K; k++)
    if (ids[k] >= 0) counts[ids[k]]++;
  if (ids[0] >= 0) first_counts[ids[0]]++;
  KERNEL(add_probabilities)(probability, E, probability_sums);
  return true;
}

/* The product of `tokens` tokens from `first` on with the router's weights: sums [tile][panel][MR][16]. `tiles` holds the
 * rows of ROUTER_CHUNKS chunks at a time. */
static void KERNEL(router_product)(const moe_router_input *input, int64_t first, int64_t tokens, float *tiles,
                                   float *sums) {
  const int64_t D = input->D, width = ceil_div(input->E, MOE_PANEL);
  const int64_t chunks = panel_chunks(MOE_FLOAT32, D);
  gemm_block at = {.rows = (const char *)tiles,
                   .row_tile = (size_t)(ROUTER_CHUNKS * MR * ROW_CHUNK),
                   .height = MR,
                   .count = tokens,
                   .panel = (size_t)chunks * PANEL_CHUNK,
                   .width = width,
                   .sums = sums};
  for (int64_t c = 0; c < chunks; c += ROUTER_CHUNKS) {
    const int64_t n = chunks - c < ROUTER_CHUNKS ? chunks - c : ROUTER_CHUNKS;
    for (int64_t t = 0; t < tokens; t++)
      for (int64_t i = 0; i < n; i++)
        for (int j = 0; j < NV; j++) {
          const int64_t d = (c + i) * LINE_FLOATS + j * W, left = D - d;
          const float *from = input->x + (first + t) * D;
          vstore(tiles + ((t / MR * ROUTER_CHUNKS + i) * MR + t % MR) * LINE_FLOATS + j * W,
                 left >= W ? vload(from + d) : vload_n(from + (left > 0 ? d : 0), left > 0 ? (int)left : 0));
        }
    at.panels = (const char *)input->panels + c * PANEL_CHUNK;
    KERNEL(multiply_chunks)(&at, n, c > 0, false, NULL);
  }
}

/* Adds the noise of training to the logits [E] of token t. */
static void KERNEL(add_noise)(const moe_router_rule *rule, int64_t t, int64_t E, float *logits) {
  const uint64_t token = rule->first_token + (uint64_t)t;
  for (int64_t e = 0; e < E; e++)
    logits[e] += rule->noise == MOE_LOGITS_NORMAL
                     ? rule->noise_size * noise_normal(rule->seed, token, e, E)
                     : 1 + rule->noise_size * (2 * noise_uniform(rule->seed, token, e) - 1);
}

/* Routes `tokens` tokens from `first` on, up to ROUTER_TOKENS, and adds them to `counts`. Returns the first token that
 * could not be ranked, or −1. */
static int64_t KERNEL(route_block)(const moe_router_rule *rule, const moe_router_input *input, int64_t first,
                                   int64_t tokens, const moe_router_output *out, int64_t *counts,
                                   float *scratch) {
  const int64_t E = input->E, K = input->K, padded = round_up(E, MOE_PANEL), width = padded / MOE_PANEL;
  const float *logits = input->logits, *bias = input->bias;
  float *row = scratch, *work = row + padded, *sums = work + 4 * padded,
        *tiles = sums + (tokens + MR) * padded;
  if (!logits) KERNEL(router_product)(input, first, tokens, tiles, sums);
  for (int64_t t = 0; t < tokens; t++) {
    const int64_t token = first + t;
    if (input->mask && !input->mask[token]) {
      for (int64_t k = 0; k < K; k++) out->expert_ids[token * K + k] = -1, out->weights[token * K + k] = 0;
      if (out->gates) memset(out->gates + token * K, 0, (size_t)K * sizeof(float));
      if (out->margins) out->margins[token] = INFINITY;
      if (out->logsumexp) out->logsumexp[token] = 0;
      if (out->logits) memset(out->logits + token * E, 0, (size_t)E * sizeof(float));
      if (out->scores) memset(out->scores + token * E, 0, (size_t)E * sizeof(float));
      continue;
    }
    for (int64_t e = 0; e < E; e++)
      row[e] = logits ? logits[token * E + e]
                      : sums[((t / MR * width + e / MOE_PANEL) * MR + t % MR) * MOE_PANEL + e % MOE_PANEL];
    if (bias)
      for (int64_t e = 0; e < E; e++) row[e] += bias[e];
    if (rule->logit_scale != 1)
      for (int64_t e = 0; e < E; e++) row[e] *= rule->logit_scale;
    if (rule->noise != MOE_LOGITS_EXACT) KERNEL(add_noise)(rule, token, E, row);
    for (int64_t e = E; e < padded; e++) row[e] = NONE;
    if (!KERNEL(route_token)(rule, input, token, row, out, counts, work)) return token;
  }
  return -1;
}
