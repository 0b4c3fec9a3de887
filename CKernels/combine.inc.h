/* Scatter-combine: each token gathers its experts' rows.
 *
 * SHAPES       y [M,D], choice_row [T,K], weights [T,K], branch [T,D], gates [T,1|2] → out [T,D]
 * DEFINITION   out[t] = a·(((w₀·y₀) + w₁·y₁) + …) + b·branch[t], multiply-adds in the order of k from zero
 * REGULARITIES A token's rows are K streams; a task's tokens write one contiguous block. A dropped choice has
 *              row −1; a token without any row gets zero, plus its branch.
 * EXAMPLE      Mixtral, 2048 tokens: 4096 rows of 16 KiB read once, 2048 written. */

static void KERNEL(combine_tokens)(const moe_choices *choices, const moe_branch *branch, int64_t first,
                                   int64_t last, float *out) {
  const float *y = choices->y, *weights = choices->weights, *rows = branch->rows, *gates = branch->gates;
  const int32_t *choice_row = choices->choice_row;
  const int64_t K = choices->K, D = choices->D, gate_columns = gates ? branch->gate_columns : 0;
  for (int64_t t = first; t < last; t++) {
    const float a = gate_columns == 2 ? gates[t * 2] : 1;
    const float b = gate_columns == 2 ? gates[t * 2 + 1] : gate_columns == 1 ? gates[t] : 1;
    for (int64_t d = 0; d < D; d += 4 * W) {
      vf sum[4];
      for (int j = 0; j < 4; j++) sum[j] = vset1(0);
      for (int64_t k = 0; k < K; k++) {
        const int64_t row = choice_row[t * K + k];
        if (row < 0) continue;
        const vf weight = vset1(weights ? weights[t * K + k] : 1);
        const float *from = y + row * D + d;
        if (d + 4 * W <= D)
          for (int j = 0; j < 4; j++) sum[j] = vfma(weight, vload(from + j * W), sum[j]);
        else
          for (int j = 0; j < 4 && d + j * W < D; j++)
            sum[j] = vfma(weight, vload_n(from + j * W, (int)(D - d - j * W)), sum[j]);
      }
      for (int j = 0; j < 4 && d + j * W < D; j++) {
        const int left = D - d - j * W < W ? (int)(D - d - j * W) : W;
        if (gate_columns == 2) sum[j] = vmul(vset1(a), sum[j]);
        if (rows) sum[j] = vfma(vset1(b), vload_n(rows + t * D + d + j * W, left), sum[j]);
        if (left == W)
          vstore(out + t * D + d + j * W, sum[j]);
        else
          vstore_n(out + t * D + d + j * W, sum[j], left);
      }
    }
  }
}

/* Gradients of the weights of some tokens: dout[t]·y[row], lanes summed in one fixed order. */
static void KERNEL(combine_tokens_backward)(const moe_choices *choices, const float *dout, int64_t first,
                                            int64_t last, float *weight_gradients) {
  const float *y = choices->y;
  const int32_t *choice_row = choices->choice_row;
  const int64_t K = choices->K, D = choices->D;
  for (int64_t c = first * K; c < last * K; c++) {
    const float *a = dout + c / K * D, *b = y + choice_row[c] * D;
    vf sum = vset1(0);
    for (int64_t d = 0; choice_row[c] >= 0 && d < D; d += W) {
      const int left = D - d < W ? (int)(D - d) : W;
      sum = left == W ? vfma(vload(a + d), vload(b + d), sum)
                      : vfma(vload_n(a + d, left), vload_n(b + d, left), sum);
    }
    weight_gradients[c] = vreduce_add(sum);
  }
}
