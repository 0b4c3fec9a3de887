/* Weight gradients of ragged groups: outer products of rows, summed over a group.
 *
 * SHAPES       row tiles [tile][K'/16][MR][16], gradient tiles [tile][panels][MR][16] → [panels][K'][16]
 * DEFINITION   for panel, k, n: for row m of the group in order: w[panel][k][n] += rows[m][k] · dz[m][panel][n]
 * REGULARITIES Both operands are read as they lie: a line of 16 gradients is a vector, a value of a row is broadcast,
 *              and the result has the layout of the weights, which an optimizer walks element by element. The sum
 *              starts from what is there, so a batch in parts gives the bits of the whole.
 * EXAMPLE      1024×3584, 128 rows an expert, AVX-512: 8 values of k by 3 panels, 24 multiply-adds a row. */

#define outer_tile SUFFIX(outer_tile)
INLINE void outer_tile(const int np, const char *a, size_t a_tile, const char *b, size_t b_tile, int64_t rows,
                       int64_t height, float *w, int64_t panel) {
  vf acc[OUTER_ROWS][OUTER_PANELS * NV];
  UNROLL for (int i = 0; i < OUTER_ROWS; i++) UNROLL for (int j = 0; j < np * NV; j++) acc[i][j] =
      vload(w + j / NV * panel + i * 16 + j % NV * W);
  for (int64_t first = 0; first < rows; first += height, a += a_tile, b += b_tile) {
    const int64_t mr = rows - first < height ? rows - first : height;
    for (int64_t r = 0; r < mr; r++) {
      vf dz[OUTER_PANELS * NV];
      UNROLL for (int j = 0; j < np * NV; j++) dz[j] =
          vload((const float *)b + (j / NV * MR + r) * 16 + j % NV * W);
      UNROLL for (int i = 0; i < OUTER_ROWS; i++) {
        vf x = vset1(((const float *)a)[r * 16 + i]);
        UNROLL for (int j = 0; j < np * NV; j++) acc[i][j] = vfma(x, dz[j], acc[i][j]);
      }
    }
  }
  UNROLL for (int i = 0; i < OUTER_ROWS; i++) UNROLL for (int j = 0; j < np * NV; j++)
      vstore(w + j / NV * panel + i * 16 + j % NV * W, acc[i][j]);
}

/* Rows k of some panels; `panel` is the floats of one. */
#define outer_block SUFFIX(outer_block)
static void outer_block(const char *a, size_t a_tile, const char *b, size_t b_tile, int64_t rows,
                        int64_t height, int64_t panels, int64_t k0, int64_t k1, float *w, int64_t panel) {
  for (int64_t p = 0; p < panels; p += OUTER_PANELS) {
    const int64_t np = panels - p < OUTER_PANELS ? panels - p : OUTER_PANELS;
    for (int64_t k = k0; k < k1; k += OUTER_ROWS) {
      const char *from = a + (k / 16 * MR * 16 + k % 16) * 4, *dz = b + p * MR * 64;
      float *to = w + p * panel + k * 16;
      if (np == 3)
        outer_tile(OUTER_PANELS < 3 ? 1 : 3, from, a_tile, dz, b_tile, rows, height, to, panel);
      else if (np == 2)
        outer_tile(OUTER_PANELS < 2 ? 1 : 2, from, a_tile, dz, b_tile, rows, height, to, panel);
      else
        outer_tile(1, from, a_tile, dz, b_tile, rows, height, to, panel);
    }
  }
}

/* Sums of the rows of a group, panel by panel. */
#define sum_rows SUFFIX(sum_rows)
static void sum_rows(const char *b, size_t b_tile, int64_t rows, int64_t height, int64_t panels,
                     float *sums) {
  for (int64_t p = 0; p < panels; p++)
    for (int j = 0; j < NV; j++) {
      vf sum = vload(sums + p * 16 + j * W);
      for (int64_t m = 0; m < rows; m++)
        sum = vadd(sum, vload((const float *)(b + m / height * b_tile) + (p * MR + m % height) * 16 + j * W));
      vstore(sums + p * 16 + j * W, sum);
    }
}
