/* The steps of attention between its matrix products: rotary positions and causal softmax.
 *
 * SHAPES       x [H·dh] of a position · cosines, sines [dh/2] · a row of scores, padded to MOE_PANEL
 * DEFINITION   (x[i], x[i + dh/2]) turned by the position's angle i; p[j] = softmax over j ≤ i of scale·s[j], 0 beyond
 * REGULARITIES Rows are independent and end at their own token, so half of a square of scores is never read.
 *              The gradient of a rotation is the opposite rotation.
 * EXAMPLE      S = 256: a square of scores is 256 KiB and stays in L2 between its two products. */

#include "../math.inc.h"

static void KERNEL(rotate_heads)(float *x, int64_t heads, int64_t half, const float *cosines,
                                 const float *sines, float sign) {
  for (int64_t h = 0; h < heads; h++, x += 2 * half)
    for (int64_t i = 0; i < half; i += W) {
      const int n = (int)(half - i < W ? half - i : W);
      vf a = vload_n(x + i, n), b = vload_n(x + half + i, n);
      vf c = vload_n(cosines + i, n), s = vmul(vload_n(sines + i, n), vset1(sign));
      vstore_n(x + i, vsub(vmul(a, c), vmul(b, s)), n);
      vstore_n(x + half + i, vfma(a, s, vmul(b, c)), n);
    }
}

/* The row of token i; `width` is a multiple of MOE_PANEL. */
static void KERNEL(causal_row)(float *row, int64_t i, int64_t width, float scale) {
  const int64_t end = round_up(i + 1, MOE_PANEL);
  for (int64_t j = i + 1; j < end; j++) row[j] = -INFINITY;
  vf most = vset1(-INFINITY), sum = vset1(0), factor = vset1(scale);
  for (int64_t j = 0; j < end; j += W) {
    vf s = vmul(vload(row + j), factor);
    vstore(row + j, s);
    most = vmax(most, s);
  }
  most = vset1(vreduce_max(most));
  for (int64_t j = 0; j < end; j += W) {
    vf e = vexp(vsub(vload(row + j), most));
    vstore(row + j, e);
    sum = vadd(sum, e);
  }
  const vf inverse = vset1(1 / vreduce_add(sum));
  for (int64_t j = 0; j < end; j += W) vstore(row + j, vmul(vload(row + j), inverse));
  for (int64_t j = end; j < width; j += W) vstore(row + j, vset1(0));
}

/* dp → ds = scale · p · (dp − Σ p·dp); 0 beyond token i. */
static void KERNEL(causal_row_backward)(const float *p, float *dp, int64_t i, int64_t width, float scale) {
  const int64_t end = round_up(i + 1, MOE_PANEL);
  vf sum = vset1(0);
  for (int64_t j = 0; j < end; j += W) sum = vfma(vload(p + j), vload(dp + j), sum);
  const vf mean = vset1(vreduce_add(sum)), factor = vset1(scale);
  for (int64_t j = 0; j < end; j += W)
    vstore(dp + j, vmul(vmul(vload(p + j), vsub(vload(dp + j), mean)), factor));
  for (int64_t j = end; j < width; j += W) vstore(dp + j, vset1(0));
}
