/* Gathering of rows into row tiles.
 *
 * SHAPES       x [·,K], row_token [M], row_weight [M] → tiles [tile][K'/16][MR][16]
 * DEFINITION   tile[k][row] = row_weight[m] · x[row_token[m]][k], zero for K ≤ k < K'
 * REGULARITIES A row's part of a chunk is whole lines, copied as they are: the gather is the packing. Rows behind the
 *              group's last one are never read by a tile and are left as they are.
 * EXAMPLE      Mixtral, 2048 tokens: 4096 rows of 4096 floats, each line read once and written once. */

static void KERNEL(gather_tile)(const float *x, int64_t K, int64_t rows, const int32_t *row_token,
                                int64_t first, const float *row_weight, char *tile) {
  const int64_t padded = round_up(K, MOE_K_MULTIPLE);
  for (int64_t r = 0; r < rows; r++) {
    const float *from = x + (row_token ? row_token[first + r] : first + r) * K;
    const vf weight = vset1(row_weight ? row_weight[first + r] : 1);
    for (int64_t k = 0; k < padded; k += MOE_PANEL) {
      vf v[NV];
      for (int j = 0; j < NV; j++) {
        const int64_t left = K - k - j * W;
        v[j] = left >= W ? vload(from + k + j * W)
                         : vload_n(from + (left > 0 ? k + j * W : 0), left > 0 ? (int)left : 0);
        if (row_weight) v[j] = vmul(v[j], weight);
      }
      row_store(tile, k, r, v);
    }
  }
}
