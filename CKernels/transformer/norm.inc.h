/* RMSNorm: a row over the root of its mean square, times a gain.
 *
 * SHAPES       x, addend [T,D] · gain [D] → sum, y [T,D], inverse [T]
 * DEFINITION   sum = x + addend; inverse = 1/√(Σ sum²/D + ε); y = sum · inverse · gain
 * REGULARITIES A row is read once from memory; the sum of a residual stream is computed in the same pass. The gain's gradient is one
 *              chain over the tokens for each column, so a batch in parts gives the bits of the whole.
 * EXAMPLE      T = 4096, D = 256: 12 MB read and written, at the rate of L3. */

static void KERNEL(norm_row)(const float *x, const float *addend, const float *gain, int64_t D, float epsilon,
                             float *sum, float *y, float *inverse) {
  vf squares = vset1(0);
  for (int64_t i = 0; i < D; i += W) {
    vf v = vload_n(x + i, (int)(D - i < W ? D - i : W));
    if (addend) v = vadd(v, vload_n(addend + i, (int)(D - i < W ? D - i : W)));
    vstore_n(sum + i, v, (int)(D - i < W ? D - i : W));
    squares = vfma(v, v, squares);
  }
  *inverse = 1 / sqrtf(vreduce_add(squares) / (float)D + epsilon);
  const vf scale = vset1(*inverse);
  for (int64_t i = 0; i < D; i += W) {
    const int n = (int)(D - i < W ? D - i : W);
    vstore_n(y + i, vmul(vmul(vload_n(sum + i, n), scale), vload_n(gain + i, n)), n);
  }
}

/* dx += inverse · (gain·dy − x · inverse² · Σ gain·dy·x / D). */
static void KERNEL(norm_row_backward)(const float *dy, const float *x, const float *gain, int64_t D,
                                      float inverse, float *dx) {
  vf sum = vset1(0);
  for (int64_t i = 0; i < D; i += W) {
    const int n = (int)(D - i < W ? D - i : W);
    sum = vfma(vmul(vload_n(dy + i, n), vload_n(gain + i, n)), vload_n(x + i, n), sum);
  }
  const vf factor = vset1(-vreduce_add(sum) / (float)D * inverse * inverse * inverse), scale = vset1(inverse);
  for (int64_t i = 0; i < D; i += W) {
    const int n = (int)(D - i < W ? D - i : W);
    vf d = vfma(vmul(vload_n(dy + i, n), vload_n(gain + i, n)), scale, vload_n(dx + i, n));
    vstore_n(dx + i, vfma(vload_n(x + i, n), factor, d), n);
  }
}

/* Columns from `first` on, up to 4 vectors: dgain += Σ dy·x·inverse, tokens in order. */
static void KERNEL(norm_gain_columns)(const float *dy, const float *x, const float *inverse, int64_t T,
                                      int64_t D, int64_t first, int64_t last, float *dgain) {
  for (int64_t i = first; i < last; i += W) {
    const int n = (int)(last - i < W ? last - i : W);
    vf sum = vload_n(dgain + i, n);
    for (int64_t t = 0; t < T; t++)
      sum = vfma(vmul(vload_n(dy + t * D + i, n), vload_n(x + t * D + i, n)), vset1(inverse[t]), sum);
    vstore_n(dgain + i, sum, n);
  }
}
