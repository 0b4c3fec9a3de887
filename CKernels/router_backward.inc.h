/* Back through the router: from the gradients of the weights and losses to those of the logits.
 *
 * SHAPES       logits [T,E], expert_ids [T,K], dL/dweights [T,K], dL/dP [groups,E] → dL/dlogits [T,E]
 * DEFINITION   w_k = scale·r_k/divisor(r), r = softmax(l)[ids] or σ(l)[ids] or softmax(l[ids]); P = softmax(l) or
 *              σ(l)/Σσ(l): the chain rule through each, the chosen experts held fixed
 * REGULARITIES Everything is computed again from the logits: an exponential an expert costs less than the memory that
 *              keeping it would take. The products with x and the router's weights are the grouped GEMM's.
 * EXAMPLE      Mixtral: softmax over 8, two chosen, divided by their sum. */

#include "math.inc.h"
#define NONE (-INFINITY)

/* dl += p·(dp − Σ p·dp): back through p = softmax(l). */
#define softmax_backward SUFFIX(softmax_backward)
INLINE void softmax_backward(const float *p, const float *dp, int64_t padded, float *dl) {
  vf dot = vset1(0);
  for (int64_t e = 0; e < padded; e += W) dot = vfma(vload(p + e), vload(dp + e), dot);
  const vf mean = vset1(vreduce_add(dot));
  for (int64_t e = 0; e < padded; e += W)
    vstore(dl + e, vfma(vload(p + e), vsub(vload(dp + e), mean), vload(dl + e)));
}

/* dr of the raw weights r from dw, through w = scale·r/divisor. */
#define normalization_backward SUFFIX(normalization_backward)
static void normalization_backward(const moe_router_rule *rule, const float *r, const float *dw, int64_t K,
                                   float *dr) {
  float sum = 0;
  for (int64_t k = 0; k < K; k++) sum += r[k];
  const bool floored = rule->normalization == MOE_NORMALIZE_SUM_AT_LEAST && sum <= rule->normalization_term;
  if (rule->normalization == MOE_NORMALIZE_NONE || floored) {
    const float divisor = floored && rule->normalization_term > 0 ? rule->normalization_term : 1;
    for (int64_t k = 0; k < K; k++) dr[k] = rule->scale * dw[k] / divisor;
    return;
  }
  /* With divisor = Σr + term, dr_k = (dw_k·divisor − Σ r_j·dw_j)/divisor², as a sum of differences of dw: of one
   * expert alone only the term is left, which the difference of the two products would lose. */
  const float term = rule->normalization == MOE_NORMALIZE_SUM_PLUS ? rule->normalization_term : 0;
  const float divisor = sum + term > 0 ? sum + term : 1;
  for (int64_t k = 0; k < K; k++) {
    float change = term * dw[k];
    for (int64_t j = 0; j < K; j++) change += r[j] * (dw[k] - dw[j]);
    dr[k] = rule->scale * change / divisor / divisor;
  }
}

/* Back through SparseMixer's weight of choice k, the survivors held fixed: softmax over them at the choice. */
#define sparse_mixer_backward SUFFIX(sparse_mixer_backward)
static void sparse_mixer_backward(const float *logits, const int32_t *ids, int64_t k, int64_t E, float jitter,
                                  float dr, float *dl) {
  const float best = logits[ids[k]];
  float sum = 0;
  for (int pass = 0; pass < 2; pass++)
    for (int64_t e = 0; e < E; e++) {
      bool out = false;
      for (int64_t i = 0; i < k; i++) out |= ids[i] == e;
      const float size = fabsf(logits[e]) > best ? fabsf(logits[e]) : best;
      if (out || (best - logits[e]) / size > 2 * jitter) continue;
      if (pass == 0)
        sum += expf(logits[e] - best);
      else
        dl[e] -= dr * expf(logits[e] - best) / (sum * sum);
    }
  dl[ids[k]] += dr / sum;
}

#define route_token_backward SUFFIX(route_token_backward)
static void route_token_backward(const moe_router_rule *rule, const float *logits, const int32_t *ids,
                                 const float *weight_gradients, int64_t E, int64_t K,
                                 const float *probability_gradients, float logsumexp_gradient, float *out,
                                 float *scratch) {
  const int64_t padded = (E + 15) / 16 * 16;
  float *l = scratch, *p = l + padded, *s = p + padded, *dp = s + padded, *dl = dp + padded, *q = dl + padded,
        *r = q + padded, *dr = r + padded;
  memset(dp, 0, (size_t)padded * sizeof *dp), memset(dl, 0, (size_t)padded * sizeof *dl);
  memcpy(l, logits, (size_t)E * sizeof *l);
  for (int64_t e = E; e < padded; e++) l[e] = NONE;
  float most = NONE;
  for (int64_t e = 0; e < E; e++) most = l[e] > most ? l[e] : most;
  const float logsumexp = softmax(l, padded, most, p);
  const bool sigmoid = rule->scoring == MOE_SIGMOID || rule->scoring == MOE_SIGMOID_OF_SELECTED;
  if (sigmoid)
    for (int64_t e = 0; e < padded; e += W) {
      /* 1 − σ(l) is σ(−l): no difference of nearly equal numbers where σ is nearly 1. */
      vstore(s + e, vsigmoid(vload(l + e)));
      vstore(q + e, vsigmoid(vsub(vset1(0), vload(l + e))));
    }

  float chosen = 0;
  switch (rule->scoring) {
  case MOE_SOFTMAX:
    for (int64_t k = 0; k < K; k++) r[k] = p[ids[k]];
    break;
  case MOE_SIGMOID:
  case MOE_SIGMOID_OF_SELECTED:
    for (int64_t k = 0; k < K; k++) r[k] = s[ids[k]];
    break;
  case MOE_SOFTMAX_OVER_SELECTED: {
    float best = NONE;
    for (int64_t k = 0; k < K; k++) best = l[ids[k]] > best ? l[ids[k]] : best;
    for (int64_t k = 0; k < K; k++) chosen += r[k] = expf(l[ids[k]] - best);
    for (int64_t k = 0; k < K; k++) r[k] /= chosen;
    break;
  }
  case MOE_SPARSE_MIXER:
    for (int64_t k = 0; k < K; k++) {
      float sum = 0;
      for (int64_t e = 0; e < E; e++) {
        bool gone = false;
        for (int64_t i = 0; i < k; i++) gone |= ids[i] == e;
        const float best = l[ids[k]], size = fabsf(l[e]) > best ? fabsf(l[e]) : best;
        if (!gone && !((best - l[e]) / size > 2 * rule->jitter)) sum += expf(l[e] - best);
      }
      r[k] = 1 / sum;
    }
    break;
  }
  normalization_backward(rule, r, weight_gradients, K, dr);

  if (probability_gradients && !sigmoid) memcpy(dp, probability_gradients, (size_t)E * sizeof *dp);
  switch (rule->scoring) {
  case MOE_SOFTMAX:
    for (int64_t k = 0; k < K; k++) dp[ids[k]] += dr[k];
    break;
  case MOE_SIGMOID:
  case MOE_SIGMOID_OF_SELECTED:
    for (int64_t k = 0; k < K; k++) dl[ids[k]] += dr[k] * s[ids[k]] * q[ids[k]];
    break;
  case MOE_SOFTMAX_OVER_SELECTED: {
    float dot = 0;
    for (int64_t k = 0; k < K; k++) dot += r[k] * dr[k];
    for (int64_t k = 0; k < K; k++) dl[ids[k]] += r[k] * (dr[k] - dot);
    break;
  }
  case MOE_SPARSE_MIXER:
    for (int64_t k = 0; k < K; k++) sparse_mixer_backward(l, ids, k, E, rule->jitter, dr[k], dl);
    break;
  }
  if (sigmoid && probability_gradients) {
    float sum = 1e-20f, dot = 0;
    for (int64_t e = 0; e < E; e++) sum += s[e], dot += s[e] * probability_gradients[e];
    for (int64_t e = 0; e < E; e++) dl[e] += (probability_gradients[e] - dot / sum) / sum * s[e] * q[e];
  }
  softmax_backward(p, dp, padded, dl);
  const float z = logsumexp_gradient * logsumexp;
  for (int64_t e = 0; e < E; e++) out[e] = dl[e] + z * p[e];
}
