/* The router's backward pass: from the gradients of the weights and losses to those of the logits.
 *
 * SHAPES       logits [T,E], expert_ids [T,K], dL/dweights [T,K], losses' dL/dP [groups,E] → dL/dlogits [T,E]
 * DEFINITION   w_k = scale·r_k/divisor(r), r = softmax(l)[ids] or σ(l)[ids] or softmax(l[ids]); P = softmax(l) or
 *              σ(l)/Σσ(l): the chain rule through each, the chosen experts held fixed
 * REGULARITIES Everything is computed again from the logits: an exponential per expert costs less than
 *              the memory that would keep it. The products with x and the router's weights are the grouped GEMM's.
 * EXAMPLE      Mixtral: softmax over 8, two chosen, divided by their sum. */

#include "math.inc.h"
#include "probabilities.inc.h"

/* The logit of an expert that cannot be chosen. */
#define NONE (-INFINITY)

/* dl += p·(dp − Σ p·dp): back through p = softmax(l). */
INLINE void KERNEL(softmax_backward)(const float *p, const float *dp, int64_t padded, float *dl) {
  vf dot = vset1(0);
  for (int64_t e = 0; e < padded; e += W) dot = vfma(vload(p + e), vload(dp + e), dot);
  const vf mean = vset1(vreduce_add(dot));
  for (int64_t e = 0; e < padded; e += W)
    vstore(dl + e, vfma(vload(p + e), vsub(vload(dp + e), mean), vload(dl + e)));
}

/* dr of the raw weights r from dw, through w = scale·r/divisor. */
static void KERNEL(normalization_backward)(const moe_router_rule *rule, const float *r, const float *dw,
                                           int64_t K, float *dr) {
  float sum = 0;
  for (int64_t k = 0; k < K; k++) sum += r[k];
  const bool floored = rule->normalization == MOE_NORMALIZE_SUM_AT_LEAST && sum <= rule->normalization_term;
  if (rule->normalization == MOE_NORMALIZE_NONE || floored) {
    const float divisor = floored && rule->normalization_term > 0 ? rule->normalization_term : 1;
    for (int64_t k = 0; k < K; k++) dr[k] = rule->scale * dw[k] / divisor;
    return;
  }
  if (rule->normalization == MOE_NORMALIZE_NORM) {
    /* With the norm N of power p: dr_k = (dw_k − (r_k/N)^(p−1)·Σ w_j·dw_j)/N. */
    const float norm = weights_divisor(rule, r, K), p = rule->normalization_term;
    float dot = 0;
    for (int64_t k = 0; k < K; k++) dot += r[k] / norm * dw[k];
    for (int64_t k = 0; k < K; k++) dr[k] = rule->scale * (dw[k] - powf(r[k] / norm, p - 1) * dot) / norm;
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

/* Marks the experts that share SparseMixer's choice k, those within 2·jitter of the largest logit not chosen before, and sums
 * their exponentials. Returns the lowest index of that logit, or −1 if all are −∞. */
static int64_t KERNEL(sparse_mixer_share)(const float *logits, const int32_t *ids, int64_t k, int64_t E,
                                          float jitter, bool *shares, float *sum) {
  int64_t best = -1;
  for (int64_t e = 0; e < E; e++) {
    shares[e] = logits[e] > NONE;
    for (int64_t i = 0; i < k; i++)
      if (ids[i] == e) shares[e] = false;
    if (shares[e] && (best < 0 || logits[e] > logits[best])) best = e;
  }
  *sum = 0;
  for (int64_t e = 0; e < E; e++) {
    if (!shares[e]) continue;
    const float most = logits[best], size = fabsf(logits[e]) > most ? fabsf(logits[e]) : most;
    shares[e] = !((most - logits[e]) / size > 2 * jitter);
    if (shares[e]) *sum += expf(logits[e] - most);
  }
  return best;
}

/* Adds to dl the gradient of SparseMixer's weight of choice k, the softmax over the experts that share, which are held
 * fixed. */
static void KERNEL(sparse_mixer_backward)(const float *logits, const int32_t *ids, int64_t k, int64_t E,
                                          float jitter, float dr, bool *shares, float *dl) {
  float sum;
  const int64_t best = KERNEL(sparse_mixer_share)(logits, ids, k, E, jitter, shares, &sum);
  if (best < 0) return;
  const float share = expf(logits[ids[k]] - logits[best]) / sum;
  for (int64_t e = 0; e < E; e++)
    if (shares[e]) dl[e] -= dr * share * (expf(logits[e] - logits[best]) / sum);
  dl[ids[k]] += dr * share;
}

/* The derivative of an expert's separate score s by its logit: σ(l)·σ(−l), which has no difference of nearly equal numbers
 * where σ is nearly 1; or σ(l)/(2·s), which is s/2 in the tail. */
INLINE vf KERNEL(separate_slope)(const moe_router_rule *rule, vf l, vf s) {
  if (rule->scoring != MOE_SQRT_SOFTPLUS) return vmul(s, vsigmoid(vsub(vset1(0), l)));
  return vselect_lt(l, vset1(SOFTPLUS_TAIL), vmul(s, vset1(0.5f)), vdiv(vsigmoid(l), vadd(s, s)));
}

/* dL/dlogits of token t, into `out` [T,E]. `scratch` holds ROWS_OF_WORK·E' floats. */
static void KERNEL(route_token_backward)(const moe_router_rule *rule, const moe_routes *routes, int64_t t,
                                         const float *weight_gradients, const moe_router_losses *losses,
                                         float *out, float *scratch) {
  const int64_t E = routes->E, padded = round_up(E, MOE_PANEL);
  const float *logits = routes->logits + t * E;
  float *l = scratch, *p = l + padded, *s = p + padded, *dp = s + padded, *dl = dp + padded,
        *slope = dl + padded, *r = slope + padded, *dr = r + padded, *of_losses = dr + padded;
  int32_t *ids = (int32_t *)(of_losses + padded);
  bool *shares = (bool *)slope; /* SparseMixer has no separate scores */
  memset(dp, 0, (size_t)padded * sizeof *dp), memset(dl, 0, (size_t)padded * sizeof *dl);
  memcpy(l, logits, (size_t)E * sizeof *l);
  for (int64_t e = E; e < padded; e++) l[e] = NONE;
  /* A second expert that was not taken is still part of the sum that the first weight was divided by. Where experts
   * choose, a token may have fewer of them than K. */
  int64_t K = 0;
  for (; K < routes->K; K++) {
    const int32_t id = routes->expert_ids[t * routes->K + K];
    if (id == -1) break;
    ids[K] = id < -1 ? MOE_NOT_TAKEN(id) : id;
  }
  float most = NONE;
  for (int64_t e = 0; e < E; e++) most = l[e] > most ? l[e] : most;
  const float logsumexp = softmax(l, padded, most, p);
  const bool separate = KERNEL(is_separate)(rule);
  if (separate)
    for (int64_t e = 0; e < padded; e += W) {
      const vf score = KERNEL(separate_score)(rule, vload(l + e));
      vstore(s + e, score);
      vstore(slope + e, KERNEL(separate_slope)(rule, vload(l + e), score));
    }

  float chosen = 0;
  switch (rule->scoring) {
  case MOE_SOFTMAX:
    for (int64_t k = 0; k < K; k++) r[k] = p[ids[k]];
    break;
  case MOE_SIGMOID:
  case MOE_SIGMOID_OF_SELECTED:
  case MOE_SQRT_SOFTPLUS:
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
      float sum;
      const int64_t best = KERNEL(sparse_mixer_share)(l, ids, k, E, rule->jitter, shares, &sum);
      r[k] = best < 0 ? 0 : expf(l[ids[k]] - l[best]) / sum;
      if (rule->is_sampled && ids[k] != best) r[k] *= heun_factor(rule, t, k, E);
    }
    break;
  }
  const int32_t *rows = rule->normalizes_kept ? routes->choice_row + t * routes->K : NULL;
  if (rows)
    for (int64_t k = 0; k < K; k++)
      if (rows[k] < 0) r[k] = 0;
  KERNEL(normalization_backward)(rule, r, weight_gradients + t * routes->K, K, dr);
  if (rows)
    for (int64_t k = 0; k < K; k++)
      if (rows[k] < 0) dr[k] = 0;

  float *all = separate ? of_losses : dp;
  memset(all, 0, (size_t)E * sizeof *all);
  for (int64_t i = 0; i < losses->count; i++) {
    const moe_probability_gradients *loss = &losses->probability[i];
    const float *values = loss->values + t / loss->grouping.run_length % loss->grouping.groups * E;
    for (int64_t e = 0; e < E; e++) all[e] += values[e];
  }
  switch (rule->scoring) {
  case MOE_SOFTMAX:
    for (int64_t k = 0; k < K; k++) dp[ids[k]] += dr[k];
    break;
  case MOE_SIGMOID:
  case MOE_SIGMOID_OF_SELECTED:
  case MOE_SQRT_SOFTPLUS:
    for (int64_t k = 0; k < K; k++) dl[ids[k]] += dr[k] * slope[ids[k]];
    break;
  case MOE_SOFTMAX_OVER_SELECTED: {
    float dot = 0;
    for (int64_t k = 0; k < K; k++) dot += r[k] * dr[k];
    for (int64_t k = 0; k < K; k++) dl[ids[k]] += r[k] * (dr[k] - dot);
    break;
  }
  case MOE_SPARSE_MIXER:
    for (int64_t k = 0; k < K; k++)
      KERNEL(sparse_mixer_backward)(l, ids, k, E, rule->jitter, dr[k], shares, dl);
    break;
  }
  if (separate && losses->count > 0) {
    float sum = SCORE_SUM_TERM, dot = 0;
    for (int64_t e = 0; e < E; e++) sum += s[e], dot += s[e] * all[e];
    for (int64_t e = 0; e < E; e++) dl[e] += (all[e] - dot / sum) / sum * slope[e];
  }
  KERNEL(softmax_backward)(p, dp, padded, dl);
  const float z = losses->logsumexp_gradient * logsumexp;
  for (int64_t e = 0; e < E; e++) out[t * E + e] = rule->logit_scale * (dl[e] + z * p[e]);
}
