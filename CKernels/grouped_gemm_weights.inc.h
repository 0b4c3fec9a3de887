/* Weight gradients of ragged groups: outer products of rows, summed over a group.
 *
 * SHAPES       row tiles [tile][K'/16][MR][16], gradient tiles [tile][panels][MR][16] → [panels][K'][16]
 *              or, where one instruction multiplies pairs, both as [panel][m/2][16][2] bfloat16 (pair_rows)
 * DEFINITION   for panel, k, n: for row m of the group in order: w[panel][k][n] += rows[m][k] · dz[m][panel][n]
 * REGULARITIES Both operands are read as they lie: a line of 16 gradients is a vector, a value of a row is broadcast,
 *              and the result has the layout of the weights, which an optimizer walks element by element. The sum
 *              starts from what is there, so a batch in parts gives the bits of the whole.
 * EXAMPLE      1024×3584, 128 rows an expert, AVX-512: 8 values of k by 3 panels, 24 multiply-adds a row. */

#define outer_tile SUFFIX(outer_tile)
INLINE void outer_tile(const int np, const bool pairs, const char *a, size_t a_tile, const char *b,
                       size_t b_tile, size_t b_panel, int64_t rows, int64_t height, float *w, int64_t panel) {
  vf acc[OUTER_ROWS][OUTER_PANELS * NV];
  UNROLL for (int i = 0; i < OUTER_ROWS; i++) UNROLL for (int j = 0; j < np * NV; j++) acc[i][j] =
      vload(w + j / NV * panel + i * 16 + j % NV * W);
  /* The next tile's sums come from memory while this one's rows are added. */
  UNROLL for (int i = 0; i < OUTER_ROWS; i++) UNROLL for (int j = 0; j < np; j++)
      __builtin_prefetch(w + j * panel + (OUTER_ROWS + i) * 16, 1, 3);
  for (int64_t first = 0; first < rows; first += height, a += a_tile, b += b_tile) {
    const int64_t mr = rows - first < height ? rows - first : height;
    for (int64_t r = 0; r < mr; r++) {
      vf dz[OUTER_PANELS * NV];
      UNROLL for (int j = 0; j < np * NV; j++) dz[j] =
          vload((const float *)(b + j / NV * b_panel + r * 64) + j % NV * W);
      UNROLL for (int i = 0; i < OUTER_ROWS; i++) {
        vf x = vset1(((const float *)a)[r * 16 + i]);
        UNROLL for (int j = 0; j < np * NV; j++) acc[i][j] =
            pairs ? vpair(acc[i][j], x, dz[j]) : vfma(x, dz[j], acc[i][j]);
      }
    }
  }
  UNROLL for (int i = 0; i < OUTER_ROWS; i++) UNROLL for (int j = 0; j < np * NV; j++)
      vstore(w + j / NV * panel + i * 16 + j % NV * W, acc[i][j]);
}

/* One function for each number of panels, found by [pairs][panels]. */
typedef void (*SUFFIX(outer_fn))(const char *, size_t, const char *, size_t, size_t, int64_t, int64_t,
                                 float *, int64_t);
#define DEFINE_OUTER(name, np, pairs)                                                                        \
  static void SUFFIX(name)(const char *a, size_t a_tile, const char *b, size_t b_tile, size_t b_panel,       \
                           int64_t rows, int64_t height, float *w, int64_t panel) {                          \
    outer_tile(np < OUTER_PANELS ? np : OUTER_PANELS, pairs, a, a_tile, b, b_tile, b_panel, rows, height, w, \
               panel);                                                                                       \
  }
DEFINE_OUTER(outer_1, 1, false)
DEFINE_OUTER(outer_2, 2, false)
DEFINE_OUTER(outer_3, 3, false)
DEFINE_OUTER(outer_pairs_1, 1, true)
DEFINE_OUTER(outer_pairs_2, 2, true)
DEFINE_OUTER(outer_pairs_3, 3, true)
static const SUFFIX(outer_fn)
    SUFFIX(outers)[2][4] = {{NULL, SUFFIX(outer_1), SUFFIX(outer_2), SUFFIX(outer_3)},
                            {NULL, SUFFIX(outer_pairs_1), SUFFIX(outer_pairs_2), SUFFIX(outer_pairs_3)}};

/* Rows k0 to k1 of some panels of w, `panel` floats each. An operand has tiles `tile` bytes apart, in each of which a
 * panel of 16 columns takes `panel` bytes and a row of it 64. About 128 rows are added at a time, so that their
 * gradients stay in L1 for all k. */
#define outer_block SUFFIX(outer_block)
static void outer_block(bool pairs, const char *a, size_t a_tile, size_t a_panel, const char *b,
                        size_t b_tile, size_t b_panel, int64_t rows, int64_t height, int64_t panels,
                        int64_t k0, int64_t k1, float *w, int64_t panel) {
  const int64_t tiles = (128 + height - 1) / height;
  for (int64_t p = 0; p < panels; p += OUTER_PANELS)
    for (int64_t t = 0; t * height < rows; t += tiles) {
      const int np = panels - p < OUTER_PANELS ? (int)(panels - p) : OUTER_PANELS;
      const int64_t left = rows - t * height, count = left < tiles * height ? left : tiles * height;
      for (int64_t k = k0; k < k1; k += OUTER_ROWS) SUFFIX(outers)
      [pairs][np](a + t * a_tile + k / 16 * a_panel + k % 16 * 4, a_tile, b + t * b_tile + p * b_panel,
                  b_tile, b_panel, count, height, w + p * panel + k * 16, panel);
    }
}

/* Sums of the rows of a group, for every step-th panel from `first` on. */
#define sum_rows SUFFIX(sum_rows)
static void sum_rows(bool bf16, const char *b, size_t b_tile, int64_t rows, int64_t height, int64_t first,
                     int64_t step, int64_t panels, float *sums) {
  for (int64_t p = first; p < panels; p += step, sums += 16) {
    vf sum[NV], row[NV];
    for (int j = 0; j < NV; j++) sum[j] = vload(sums + j * W);
    for (int64_t m = 0; m < rows; m++) {
      const char *tile = b + m / height * b_tile;
      if (bf16)
        row16_load_bf16(tile, p * 16, (int)(m % height), row);
      else
        for (int j = 0; j < NV; j++) row[j] = vload((const float *)tile + (p * MR + m % height) * 16 + j * W);
      for (int j = 0; j < NV; j++) sum[j] = vadd(sum[j], row[j]);
    }
    for (int j = 0; j < NV; j++) vstore(sums + j * W, sum[j]);
  }
}
