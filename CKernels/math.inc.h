/* Transcendental functions of vectors, in the vocabulary of isa.h, which they extend. */

#define vexp               KERNEL(vexp)        /* e^x */
#define vsigmoid           KERNEL(vsigmoid)    /* 1/(1 + e^−x) */
#define vsoftplus          KERNEL(vsoftplus)   /* ln(1 + e^x) */
#define vnormal            KERNEL(vnormal)     /* the normal distribution function, and its density */
#define vgelu              KERNEL(vgelu)       /* x·Φ(x) */
#define vgelu_tanh         KERNEL(vgelu_tanh)  /* its approximation by tanh */
#define vgelu_slope        KERNEL(vgelu_slope) /* derivatives of both */
#define vgelu_tanh_slope   KERNEL(vgelu_tanh_slope)
#define softmax            KERNEL(softmax)            /* of a row */
#define vactivate          KERNEL(vactivate)          /* the expert's nonlinearity */
#define vactivate_backward KERNEL(vactivate_backward) /* its gradients */

/* e^x within 3·2^−24 relative: x = n·ln2 + r with |r| ≤ ln2/2, e^r by its series to r⁷ (the next term is below
 * 6·10⁻⁹). 0 below −104, +∞ above 88.8; NaN stays NaN. 2^n is applied in two halves so that subnormal results
 * come out. */
INLINE vf vexp(vf x) {
  x = vmin(vset1(90.0f), vmax(vset1(-105.0f), x));
  vf n = vround(vmul(x, vset1(1.44269504f)));
  vf r = vfma(n, vset1(-0x1.62e4p-1f), x);
  r = vfma(n, vset1(-0x1.7f7d1cp-20f), r);
  vf e = vset1(1.0f / 5040);
  e = vfma(e, r, vset1(1.0f / 720));
  e = vfma(e, r, vset1(1.0f / 120));
  e = vfma(e, r, vset1(1.0f / 24));
  e = vfma(e, r, vset1(1.0f / 6));
  e = vfma(e, r, vset1(0.5f));
  e = vfma(e, r, vset1(1));
  e = vfma(e, r, vset1(1));
  vf half = vround(vmul(n, vset1(0.5f)));
  return vmul(vmul(e, vpow2(half)), vpow2(vsub(n, half)));
}

/* 1/(1 + e^−x), within 6·2^−24 relative; 0 below −88.7, where e^−x overflows. */
INLINE vf vsigmoid(vf x) { return vdiv(vset1(1), vadd(vset1(1), vexp(vsub(vset1(0), x)))); }

/* ln(1 + e^x), within 6·2^−24 relative: max(x,0) + ln(1 + t) with t = e^−|x|, and ln(1 + t) = 2·artanh(z) with
 * z = t/(2 + t) ≤ 1/3, by its series to z^15 (the next term is below 5·10⁻¹⁰ of the first). */
INLINE vf vsoftplus(vf x) {
  vf t = vexp(vsub(vset1(0), vmax(vsub(vset1(0), x), x)));
  vf z = vdiv(t, vadd(vset1(2), t)), w = vmul(z, z);
  vf s = vset1(1.0f / 15);
  s = vfma(s, w, vset1(1.0f / 13));
  s = vfma(s, w, vset1(1.0f / 11));
  s = vfma(s, w, vset1(1.0f / 9));
  s = vfma(s, w, vset1(1.0f / 7));
  s = vfma(s, w, vset1(1.0f / 5));
  s = vfma(s, w, vset1(1.0f / 3));
  s = vfma(s, w, vset1(1));
  return vadd(vmax(x, vset1(0)), vmul(vadd(z, z), s));
}

/* Φ(x), the normal distribution function, to 10⁻⁶ relative in both tails, and its density.
 * For u = |x|: Φ(−u) = e^(−u²/2)·q(t), t = (u − 4)/(u + 4), q fitted on 0 ≤ u ≤ 15 to 1.1·10⁻⁷ relative;
 * e^(−u²/2) is 0 in fp32 beyond. u²/2 is split at h = u rounded to sixteenths, whose square is exact, as one
 * rounding of u² would be magnified by u²/2. */
INLINE vf vnormal(vf x, vf *density) {
  vf u = vmax(vsub(vset1(0), x), x);
  vf c = vmin(vset1(15), u);
  vf h = vmul(vround(vmul(c, vset1(16))), vset1(1.0f / 16));
  vf rest = vmul(vmul(vsub(c, h), vadd(c, h)), vset1(-0.5f));
  vf gauss = vmul(vexp(vmul(vmul(h, h), vset1(-0.5f))), vexp(rest));
  vf t = vdiv(vsub(c, vset1(4)), vadd(c, vset1(4)));
  vf q = vset1(-0x1.124a64p-14f);
  q = vfma(q, t, vset1(-0x1.5f3bb8p-13f));
  q = vfma(q, t, vset1(0x1.5941cap-11f));
  q = vfma(q, t, vset1(0x1.07781cp-11f));
  q = vfma(q, t, vset1(-0x1.167968p-7f));
  q = vfma(q, t, vset1(0x1.f9b322p-6f));
  q = vfma(q, t, vset1(-0x1.25b5e2p-4f));
  q = vfma(q, t, vset1(0x1.fd750cp-4f));
  q = vfma(q, t, vset1(-0x1.5cf97ep-3f));
  q = vfma(q, t, vset1(0x1.82b4bcp-4f));
  vf tail = vmul(gauss, q);
  *density = vmul(gauss, vset1(0.3989422804f));
  return vselect_lt(x, vset1(0), tail, vsub(vset1(1), tail));
}

INLINE vf vgelu(vf x) {
  vf density;
  return vmul(x, vnormal(x, &density));
}

/* ½x·(1 + tanh v) with v = √(2/π)·(x + 0.044715x³), as x·σ(2v): no difference of nearly equal numbers. Within
 * (8 + 6·|2v|·(1 − σ(2v)))·2^−24 relative: the exponential magnifies the rounding of 2v in the negative tail. */
INLINE vf vgelu_tanh(vf x) {
  vf cubic = vfma(vmul(vmul(x, x), x), vset1(0.044715f), x);
  return vmul(x, vsigmoid(vmul(cubic, vset1(1.5957691216f))));
}

/* p = softmax(l) over E' entries, a multiple of W, padded with −∞, whose p is 0; `most` is the largest. Returns
 * ln Σ e^l. */
INLINE float softmax(const float *l, int64_t E, float most, float *p) {
  vf sum = vset1(0);
  for (int64_t e = 0; e < E; e += W) {
    vf v = vexp(vsub(vload(l + e), vset1(most)));
    vstore(p + e, v);
    sum = vadd(sum, v);
  }
  const float total = vreduce_add(sum);
  for (int64_t e = 0; e < E; e += W) vstore(p + e, vdiv(vload(p + e), vset1(total)));
  return most + logf(total);
}

/* The expert's nonlinearity on gate g and up u; g is ignored where the activation has no gate. */
INLINE vf vactivate(moe_activation activation, vf g, vf u, float alpha, float limit) {
  switch (activation) {
  case MOE_RELU:
    return vmax(vset1(0), u);
  case MOE_GELU:
    return vgelu(u);
  case MOE_GELU_TANH:
    return vgelu_tanh(u);
  case MOE_SWIGLU:
    return vmul(vmul(g, vsigmoid(g)), u);
  case MOE_GEGLU:
    return vmul(vgelu(g), u);
  case MOE_GEGLU_TANH:
    return vmul(vgelu_tanh(g), u);
  case MOE_CLAMPED_SWIGLU: {
    vf gate = vmin(vset1(limit), g);
    vf up = vmin(vset1(limit), vmax(vset1(-limit), u));
    return vmul(vadd(up, vset1(1)), vmul(gate, vsigmoid(vmul(gate, vset1(alpha)))));
  }
  }
  return u;
}

/* Derivatives of x·Φ(x) and of its tanh form. */
INLINE vf vgelu_slope(vf x) {
  vf density, normal = vnormal(x, &density);
  return vfma(x, density, normal);
}
INLINE vf vgelu_tanh_slope(vf x) {
  vf square = vmul(x, x), one = vset1(1);
  vf s = vsigmoid(vmul(vfma(vmul(square, x), vset1(0.044715f), x), vset1(1.5957691216f)));
  vf inner = vmul(vfma(square, vset1(3 * 0.044715f), one), vset1(1.5957691216f));
  return vfma(vmul(vmul(x, s), vsub(one, s)), inner, s);
}

/* dL/dg and dL/du from dL/dh; a clamp passes the gradient on at its limit and none beyond. */
INLINE void vactivate_backward(moe_activation activation, vf g, vf u, vf dh, float alpha, float limit, vf *dg,
                               vf *du) {
  const vf zero = vset1(0), one = vset1(1);
  *dg = zero;
  switch (activation) {
  case MOE_RELU:
    *du = vselect_lt(zero, u, dh, zero);
    return;
  case MOE_GELU:
    *du = vmul(dh, vgelu_slope(u));
    return;
  case MOE_GELU_TANH:
    *du = vmul(dh, vgelu_tanh_slope(u));
    return;
  case MOE_SWIGLU: {
    vf s = vsigmoid(g), silu = vmul(g, s);
    *dg = vmul(vmul(dh, u), vfma(silu, vsub(one, s), s));
    *du = vmul(dh, silu);
    return;
  }
  case MOE_GEGLU:
    *dg = vmul(vmul(dh, u), vgelu_slope(g));
    *du = vmul(dh, vgelu(g));
    return;
  case MOE_GEGLU_TANH:
    *dg = vmul(vmul(dh, u), vgelu_tanh_slope(g));
    *du = vmul(dh, vgelu_tanh(g));
    return;
  case MOE_CLAMPED_SWIGLU: {
    vf gate = vmin(vset1(limit), g), up = vmin(vset1(limit), vmax(vset1(-limit), u));
    vf s = vsigmoid(vmul(gate, vset1(alpha)));
    vf slope = vfma(vmul(vmul(vset1(alpha), gate), s), vsub(one, s), s);
    *dg = vselect_lt(vset1(limit), g, zero, vmul(vmul(dh, vadd(up, one)), slope));
    *du = vselect_lt(vset1(limit), vmax(vsub(zero, u), u), zero, vmul(dh, vmul(gate, s)));
    return;
  }
  }
}
