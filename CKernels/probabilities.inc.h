/* The probabilities that the losses of a router see, and their sums over tokens. */

/* Added to the sum of a token's separate scores, so that scores that all underflow give probabilities of 0 (Megatron-LM,
 * compute_routing_scores_for_aux_loss). */
#define SCORE_SUM_TERM 1e-20f

/* The kernels count a probability in units of 2^−30: a sum of integers is the same in any order. */
#define PROBABILITY_UNITS 0x1p30f

/* Returns whether the score of an expert depends on its own logit alone. */
INLINE bool KERNEL(is_separate)(const moe_router_rule *rule) {
  return rule->scoring == MOE_SIGMOID || rule->scoring == MOE_SIGMOID_OF_SELECTED ||
         rule->scoring == MOE_SQRT_SOFTPLUS;
}

/* Below this logit √ln(1 + e^l) is e^(l/2) within 10⁻⁸ relative, which is above 0 where e^l underflows. */
#define SOFTPLUS_TAIL (-17.0f)

/* The score of an expert from its own logit: σ(l) or √ln(1 + e^l). */
INLINE vf KERNEL(separate_score)(const moe_router_rule *rule, vf l) {
  if (rule->scoring != MOE_SQRT_SOFTPLUS) return vsigmoid(l);
  return vselect_lt(l, vset1(SOFTPLUS_TAIL), vexp(vmul(l, vset1(0.5f))), vsqrt(vsoftplus(l)));
}

/* p [E'] of logits l [E'], padded with −∞, whose largest is `most`: the softmax over all experts, or separate scores over
 * their sum; score [E'] gets the separate scores where there are any. Returns ln Σ e^l. */
INLINE float KERNEL(loss_probabilities)(const moe_router_rule *rule, const float *l, int64_t E,
                                        int64_t padded, float most, float *score, float *p) {
  const float logsumexp = softmax(l, padded, most, p);
  if (!KERNEL(is_separate)(rule)) return logsumexp;
  vf sum = vset1(0);
  for (int64_t e = 0; e < padded; e += W) {
    vf v = KERNEL(separate_score)(rule, vload(l + e));
    vstore(score + e, v);
    sum = vadd(sum, v);
  }
  for (int64_t e = E; e < padded; e++) score[e] = 0;
  const float total = vreduce_add(sum) + SCORE_SUM_TERM;
  for (int64_t e = 0; e < padded; e += W) vstore(p + e, vdiv(vload(score + e), vset1(total)));
  return logsumexp;
}

/* sums [E] += p, in units. A float of 2^23 or more is an integer already, and adding a half would round it to an even
 * one. */
INLINE void KERNEL(add_probabilities)(const float *p, int64_t E, int64_t *sums) {
  for (int64_t e = 0; e < E; e++) {
    const float units = p[e] * PROBABILITY_UNITS;
    sums[e] += (int32_t)(units < 0x1p23f ? units + 0.5f : units);
  }
}
