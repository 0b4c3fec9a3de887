/* Weight gradients of ragged groups: outer products of rows, summed over a group.
 *
 * SHAPES       row tiles [tile][K'/16][MR][16], gradient tiles [tile][panels][MR][16] → [panels][K'][16]
 *              or, where one instruction multiplies pairs, both as [panel][m/2][16][2] bfloat16 (pair_rows)
 * DEFINITION   for panel, k, n: for row m of the group in order: w[panel][k][n] += rows[m][k] · dz[m][panel][n]
 * REGULARITIES Both operands are read as they lie: a line of 16 gradients is a vector, a value of a row is broadcast,
 *              and the result has the layout of the weights, which an optimizer walks element by element. The sum
 *              starts from what is there, so a batch in parts gives the bits of the whole.
 * EXAMPLE      1024×3584, 128 rows an expert, AVX-512: 8 values of k by 3 panels, 24 multiply-adds per row. */

/* OUTER_ROWS values of k by np panels, from the lines that `at` says, into w. */
INLINE void KERNEL(outer_tile)(const int np, const outer_block *at, float *w) {
  const outer_operand rows = at->rows, gradients = at->gradients;
  const int64_t count = at->count, height = at->height, panel = at->panel;
  const char *a = rows.at, *b = gradients.at;
  vf acc[OUTER_ROWS][OUTER_PANELS * NV];
  UNROLL for (int i = 0; i < OUTER_ROWS; i++) UNROLL for (int j = 0; j < np * NV; j++) acc[i][j] =
      vload(w + j / NV * panel + i * MOE_PANEL + j % NV * W);
  /* The next tile's sums come from memory while this one's rows are added. */
  UNROLL for (int i = 0; i < OUTER_ROWS; i++) UNROLL for (int j = 0; j < np; j++)
      __builtin_prefetch(w + j * panel + (OUTER_ROWS + i) * MOE_PANEL, 1, 3);
  for (int64_t first = 0; first < count; first += height, a += rows.tile, b += gradients.tile) {
    const int64_t mr = count - first < height ? count - first : height;
    for (int64_t r = 0; r < mr; r++) {
      vf dz[OUTER_PANELS * NV];
      UNROLL for (int j = 0; j < np * NV; j++) dz[j] =
          vload((const float *)(b + j / NV * gradients.panel + r * LINE) + j % NV * W);
      UNROLL for (int i = 0; i < OUTER_ROWS; i++) {
        vf x = vset1(((const float *)a)[r * LINE_FLOATS + i]);
        UNROLL for (int j = 0; j < np * NV; j++) acc[i][j] = multiply_add(acc[i][j], x, dz[j]);
      }
    }
  }
  UNROLL for (int i = 0; i < OUTER_ROWS; i++) UNROLL for (int j = 0; j < np * NV; j++)
      vstore(w + j / NV * panel + i * MOE_PANEL + j % NV * W, acc[i][j]);
}

/* One function for each number of panels. */
typedef void (*KERNEL(outer_fn))(const outer_block *, float *);
#define DEFINE_OUTER(np)                                                                                     \
  static void KERNEL(outer_##np)(const outer_block *at, float *w) {                                          \
    KERNEL(outer_tile)(np < OUTER_PANELS ? np : OUTER_PANELS, at, w);                                        \
  }
DEFINE_OUTER(1)
DEFINE_OUTER(2)
DEFINE_OUTER(3)
#undef DEFINE_OUTER
static const KERNEL(outer_fn) KERNEL(outers)[4] = {NULL, KERNEL(outer_1), KERNEL(outer_2), KERNEL(outer_3)};

/* A block, ROWS_AT_A_TIME rows at a time. */
static void KERNEL(outer)(const outer_block *block) {
  const outer_block g = *block;
  const int64_t tiles = (ROWS_AT_A_TIME + g.height - 1) / g.height;
  for (int64_t p = 0; p < g.panels; p += OUTER_PANELS)
    for (int64_t t = 0; t * g.height < g.count; t += tiles) {
      const int np = g.panels - p < OUTER_PANELS ? (int)(g.panels - p) : OUTER_PANELS;
      const int64_t left = g.count - t * g.height;
      outer_block at = g;
      at.count = left < tiles * g.height ? left : tiles * g.height;
      at.gradients.at = g.gradients.at + t * g.gradients.tile + p * g.gradients.panel;
      for (int64_t k = g.k0; k < g.k1; k += OUTER_ROWS) {
        at.rows.at = g.rows.at + t * g.rows.tile + k / LINE_FLOATS * g.rows.panel + k % LINE_FLOATS * 4;
        KERNEL(outers)[np](&at, g.w + p * g.panel + k * MOE_PANEL);
      }
    }
}

/* Adds the rows of a group to `sums`, for every step-th panel from `first` on. */
static void KERNEL(sum_rows)(const char *b, size_t b_tile, int64_t rows, int64_t height, int64_t first,
                             int64_t step, int64_t panels, float *sums) {
  for (int64_t p = first; p < panels; p += step, sums += MOE_PANEL) {
    vf sum[NV], row[NV];
    for (int j = 0; j < NV; j++) sum[j] = vload(sums + j * W);
    for (int64_t m = 0; m < rows; m++) {
      row_load(b + m / height * b_tile, p * MOE_PANEL, m % height, row);
      for (int j = 0; j < NV; j++) sum[j] = vadd(sum[j], row[j]);
    }
    for (int j = 0; j < NV; j++) vstore(sums + j * W, sum[j]);
  }
}
