/* The probabilities that the losses of a router see, and their sums over tokens. */

/* Added to the sum of a token's sigmoids, so that sigmoids that all underflow give probabilities of 0 (Megatron-LM,
 * compute_routing_scores_for_aux_loss). */
#define SIGMOID_SUM_TERM 1e-20f

/* The kernels count a probability in units of 2^−30: a sum of integers is the same in any order. */
#define PROBABILITY_UNITS 0x1p30f

INLINE bool KERNEL(is_sigmoid)(const moe_router_rule *rule) {
  return rule->scoring == MOE_SIGMOID || rule->scoring == MOE_SIGMOID_OF_SELECTED;
}

/* p [E'] of logits l [E'], padded with −∞, whose largest is `most`: the softmax over all experts, or sigmoids over
 * their sum; score [E'] gets the sigmoids where there are any. Returns ln Σ e^l. */
INLINE float KERNEL(loss_probabilities)(const moe_router_rule *rule, const float *l, int64_t E,
                                        int64_t padded, float most, float *score, float *p) {
  const float logsumexp = softmax(l, padded, most, p);
  if (!KERNEL(is_sigmoid)(rule)) return logsumexp;
  vf sum = vset1(0);
  for (int64_t e = 0; e < padded; e += W) {
    vf v = vsigmoid(vload(l + e));
    vstore(score + e, v);
    sum = vadd(sum, v);
  }
  for (int64_t e = E; e < padded; e++) score[e] = 0;
  const float total = vreduce_add(sum) + SIGMOID_SUM_TERM;
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
