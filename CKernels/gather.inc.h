/* Gathering of rows into row tiles.
 *
 * SHAPES       x [·,K], row_token [M], row_weight [M] → tiles [tile][K'/16][MR][16]
 * DEFINITION   tile[k][row] = row_weight[m] · x[row_token[m]][k], zero for K ≤ k < K'
 * REGULARITIES A row's chunk is one cache line, copied whole: the gather is the packing. Rows beyond the group's
 *              last are never read by a tile and are left as they are.
 * EXAMPLE      Mixtral, 2048 tokens: 4096 rows of 4096 floats, each line read once and written once. */

#define gather_tile SUFFIX(gather_tile)
static void gather_tile(bool bf16, const float *x, int64_t K, int64_t rows, const int32_t *row_token,
                        int64_t first, const float *row_weight, char *tile) {
  const int64_t padded = (K + MOE_K_MULTIPLE - 1) / MOE_K_MULTIPLE * MOE_K_MULTIPLE;
  for (int64_t r = 0; r < rows; r++) {
    const float *from = x + (row_token ? row_token[first + r] : first + r) * K;
    const vf weight = vset1(row_weight ? row_weight[first + r] : 1);
    for (int64_t k = 0; k < padded; k += 16) {
      vf v[NV];
      for (int j = 0; j < NV; j++) {
        const int64_t left = K - k - j * W;
        v[j] = left >= W ? vload(from + k + j * W)
                         : vload_n(from + (left > 0 ? k + j * W : 0), left > 0 ? (int)left : 0);
        if (row_weight) v[j] = vmul(v[j], weight);
      }
      if (bf16)
        row16_store_bf16(tile, k, (int)r, v);
      else
        for (int j = 0; j < NV; j++) vstore((float *)tile + (k / 16 * MR + r) * 16 + j * W, v[j]);
    }
  }
}
