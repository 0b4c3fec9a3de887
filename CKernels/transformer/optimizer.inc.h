/* Optimizers: every element for itself.
 *
 * SHAPES       p, g, m, v [n]; layout and padding do not matter, as zeros stay zero
 * DEFINITION   AdamW  g ← s·g;  m ← β₁·m + (1−β₁)·g;  v ← β₂·v + (1−β₂)·g²
 *                     p ← keep·p − step·m / (√(v·factor) + ε)
 *              SGD    g ← s·g;  m ← μ·m + g;  p ← keep·p − step·(nesterov ? g + μ·m : m)
 * REGULARITIES Each array is one stream: AdamW reads four and writes three, 28 bytes for an element, and the square
 *              root and the division hide behind them.
 * EXAMPLE      A million parameters: 28 MB, 0.7 ms at 40 GB/s. */

static void KERNEL(adamw_step)(const moe_adamw_rule *rule, const float *gradient, int64_t n, float *values,
                               float *mean, float *variance) {
  const vf scale = vset1(rule->gradient_scale), beta1 = vset1(rule->beta1), rest1 = vset1(rule->beta1_rest);
  const vf beta2 = vset1(rule->beta2), rest2 = vset1(rule->beta2_rest), keep = vset1(rule->keep);
  const vf step = vset1(-rule->mean_step), factor = vset1(rule->variance_factor);
  const vf epsilon = vset1(rule->epsilon);
  for (int64_t i = 0; i < n; i += W) {
    const int left = n - i < W ? (int)(n - i) : W;
    const bool whole = left == W;
    const vf g = vmul(scale, whole ? vload(gradient + i) : vload_n(gradient + i, left));
    vf p = whole ? vload(values + i) : vload_n(values + i, left);
    vf m = whole ? vload(mean + i) : vload_n(mean + i, left);
    vf v = whole ? vload(variance + i) : vload_n(variance + i, left);
    m = vfma(rest1, g, vmul(beta1, m));
    v = vfma(vmul(rest2, g), g, vmul(beta2, v));
    p = vfma(keep, p, vdiv(vmul(step, m), vadd(vsqrt(vmul(v, factor)), epsilon)));
    if (whole) {
      vstore(values + i, p), vstore(mean + i, m), vstore(variance + i, v);
    } else {
      vstore_n(values + i, p, left), vstore_n(mean + i, m, left), vstore_n(variance + i, v, left);
    }
  }
}

static void KERNEL(sgd_step)(const moe_sgd_rule *rule, const float *gradient, int64_t n, float *values,
                             float *velocity) {
  const vf scale = vset1(rule->gradient_scale), momentum = vset1(rule->momentum), keep = vset1(rule->keep);
  const vf step = vset1(-rule->step);
  for (int64_t i = 0; i < n; i += W) {
    const int left = n - i < W ? (int)(n - i) : W;
    const bool whole = left == W;
    const vf g = vmul(scale, whole ? vload(gradient + i) : vload_n(gradient + i, left));
    vf direction = g;
    if (velocity) {
      const vf m = vfma(momentum, whole ? vload(velocity + i) : vload_n(velocity + i, left), g);
      if (whole)
        vstore(velocity + i, m);
      else
        vstore_n(velocity + i, m, left);
      direction = rule->nesterov ? vfma(momentum, m, g) : m;
    }
    const vf p = vfma(keep, whole ? vload(values + i) : vload_n(values + i, left), vmul(step, direction));
    if (whole)
      vstore(values + i, p);
    else
      vstore_n(values + i, p, left);
  }
}
