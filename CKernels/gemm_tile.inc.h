/* The inner loop of the router and of both grouped products: a tile of rows times panels of weights.
 *
 * SHAPES       row tile [K'/16][MR][16] floats, or bfloat16 as row16_store_bf16 lays it out
 *              panel    [K'][16] floats, or [K'/2][16][2] bfloat16: one step is 64 bytes either way
 *              sums     [panel][MR][16] floats
 *              A chunk is 16 steps: 16 values of k in fp32, 32 in bfloat16.
 * DEFINITION   for panel, row, n: for k in order: sums[panel][row][n] += tile[k][row] · panel[k][n]
 * REGULARITIES Rows of a tile are a line of 64 bytes a chunk, so gathering is copying lines and the tile walks
 *              memory forward whatever the stride of x is. The sums go through memory between blocks of k: the
 *              chain of additions is the same however k is blocked, so block sizes never change a bit.
 * EXAMPLE      AVX-512 fp32: 12 rows × 2 panels; a step is 2 loads, 12 broadcasts, 24 multiply-adds. */

#define gemm_tile SUFFIX(gemm_tile)
INLINE void gemm_tile(const int mr, const int np, const bool bf16, const char *a, const char *b, size_t panel,
                      float *sums, int64_t chunks, bool resume, fetch weights, fetch rows) {
  vf acc[MR][TILE_NV];
  if (resume) {
    UNROLL for (int r = 0; r < mr; r++) UNROLL for (int j = 0; j < np * NV; j++) acc[r][j] =
        vload(sums + (j / NV * MR + r) * 16 + j % NV * W);
  } else {
    UNROLL for (int r = 0; r < mr; r++) UNROLL for (int j = 0; j < np * NV; j++) acc[r][j] = vset1(0);
  }
  for (int64_t c = 0; c < chunks; c++) {
    for (int64_t l = 0; l < weights.lines; l++, weights.at += 64) __builtin_prefetch(weights.at, 0, 2);
    for (int64_t l = 0; l < rows.lines; l++, rows.at += 64) __builtin_prefetch(rows.at, 0, 2);
    for (int step = 0; step < 16; step++) {
      if (bf16) {
        step_bf16(mr, np, acc, a, b, panel, step);
      } else {
        vf w[TILE_NV];
        UNROLL for (int j = 0; j < np * NV; j++) w[j] =
            vload((const float *)(b + j / NV * panel + step * 64) + j % NV * W);
        UNROLL for (int r = 0; r < mr; r++) {
          vf x = vset1(((const float *)a)[r * 16 + step]);
          UNROLL for (int j = 0; j < np * NV; j++) acc[r][j] = vfma(x, w[j], acc[r][j]);
        }
      }
    }
    a += bf16 ? BF16_CHUNK_BYTES * MR : 64 * MR;
    b += 16 * 64;
  }
  UNROLL for (int r = 0; r < mr; r++) UNROLL for (int j = 0; j < np * NV; j++)
      vstore(sums + (j / NV * MR + r) * 16 + j % NV * W, acc[r][j]);
}

/* One function for each shape of TILE_SHAPES, found by [bf16][log2 np][mr]; a shape that is not there is NULL. */
typedef void (*SUFFIX(tile_fn))(const char *, const char *, size_t, float *, int64_t, bool, fetch, fetch);
#define DEFINE_TILE(mr, np)                                                                                  \
  static void SUFFIX(tile_f32_##mr##x##np)(const char *a, const char *b, size_t panel, float *sums,          \
                                           int64_t chunks, bool resume, fetch weights, fetch rows) {         \
    gemm_tile(mr, np, false, a, b, panel, sums, chunks, resume, weights, rows);                              \
  }                                                                                                          \
  static void SUFFIX(tile_bf16_##mr##x##np)(const char *a, const char *b, size_t panel, float *sums,         \
                                            int64_t chunks, bool resume, fetch weights, fetch rows) {        \
    gemm_tile(mr, np, true, a, b, panel, sums, chunks, resume, weights, rows);                               \
  }
#define TILE_ENTRY_f32(mr, np)  [0][(np) / 2 - (np) / 8][mr] = SUFFIX(tile_f32_##mr##x##np),
#define TILE_ENTRY_bf16(mr, np) [1][(np) / 2 - (np) / 8][mr] = SUFFIX(tile_bf16_##mr##x##np),
MOE_JOIN(TILE_SHAPES, ISA)(DEFINE_TILE) static const SUFFIX(tile_fn) SUFFIX(tiles)[2][4][MR + 1] = {
    MOE_JOIN(TILE_SHAPES, ISA)(TILE_ENTRY_f32) MOE_JOIN(TILE_SHAPES, ISA)(TILE_ENTRY_bf16)};

/* Panels a tile of `mr` rows takes at a time: as log2, the widest shape with at most `panels`. */
INLINE int SUFFIX(tile_width)(bool bf16, int mr, int64_t panels) {
  for (int l = 3; l > 0; l--)
    if ((1 << l) <= panels && SUFFIX(tiles)[bf16][l][mr]) return l;
  return 0;
}

/* All tiles of a block of rows times all panels of a block of columns, over one block of k. Tiles have `height` rows,
 * the last perhaps fewer. sums: [tile][panels][MR][16]. While a group of panels is used, the next one is fetched into
 * L2, and with the last group the rows of the next block of k: a group lasts a few thousand cycles, and the
 * hardware's own prefetch begins too late for memory. `more` tells that such a block follows. Where panels lie in L2
 * already, `source` is what is fetched instead; otherwise it is NULL. */
#define gemm_block SUFFIX(gemm_block)
INLINE void gemm_block(bool bf16, const char *a, size_t a_tile, int64_t rows, int64_t height, const char *b,
                       size_t panel, int64_t panels, float *sums, int64_t chunks, bool resume, bool more,
                       const fetch_runs *source) {
  const size_t a_chunk = bf16 ? BF16_CHUNK_BYTES * MR : 64 * MR;
  const int64_t row_tiles = (rows + height - 1) / height;
  const int first = (int)(rows < height ? rows : height);
  /* Each tile fetches a piece of a run, of as many lines a chunk as the runs need. */
  int64_t pieces = 0, piece = 1;
  if (source) {
    const int64_t calls = row_tiles * (panels >> SUFFIX(tile_width)(bf16, first, panels));
    while (piece * 2 * 16 <= source->lines && calls * piece * 16 < source->runs * source->lines) piece *= 2;
  }
  for (int64_t p = 0, np; p < panels; p += np) {
    const int l = SUFFIX(tile_width)(bf16, first, panels - p);
    np = 1 << l;
    const bool last = p + np >= panels;
    const char *next = last ? b + chunks * 1024 : b + (p + np) * panel;
    /* Tiles share the panels of the next group out among themselves; a single tile streams by itself. */
    const int64_t share = (row_tiles + np - 1) / np;
    const int64_t lines = (more || !last) && row_tiles > 1 ? (16 + share - 1) / share : 0;
    for (int64_t t = 0; t < row_tiles; t++) {
      const char *tile = a + t * a_tile;
      const int64_t left = rows - t * height;
      fetch weights = {next + t / share * panel + t % share * lines * chunks * 64, lines};
      if (source) {
        const int64_t line = pieces++ * piece * 16, run = line / source->lines;
        weights = run < source->runs
                      ? (fetch){source->at + run * source->stride + line % source->lines * 64, piece}
                      : (fetch){next, 0};
      }
      const fetch ahead = {tile + chunks * a_chunk,
                           last && more && row_tiles > 1 ? (int64_t)a_chunk / 64 : 0};
      SUFFIX(tiles)
      [bf16][l][left < height ? left : height](tile, b + p * panel, panel, sums + (t * panels + p) * MR * 16,
                                               chunks, resume, weights, ahead);
    }
  }
}
