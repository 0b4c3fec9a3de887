/* The inner loop of the router and of the grouped products: a tile of rows times panels of weights. A header of formats/
 * is included before.
 *
 * SHAPES       row tile [K' / values of a line][MR][line], as row_store of the format lays it out
 *              panel    [K' / STEP_K][16][STEP_K]: a step is a line in float32 and in bfloat16
 *              sums     [panel][MR][16] floats
 *              A chunk is CHUNK_STEPS steps.
 * DEFINITION   for panel, row, n: for k in order: sums[panel][row][n] += tile[k][row] · panel[k][n]
 * REGULARITIES Rows of a tile are whole lines, so gathering copies lines, and the tile walks memory forward whatever the
 *              stride of x is. The sums go through memory between blocks of k: the chain of additions is the same
 *              however k is blocked, so the sizes of blocks never change a bit.
 * EXAMPLE      AVX-512 float32: 12 rows × 2 panels; a step is 2 loads, 12 broadcasts, 24 multiply-adds. */

INLINE void KERNEL(gemm_tile)(const int mr, const int np, const tile_call *call) {
  const char *a = call->rows, *b = call->panels;
  const size_t panel = call->panel;
  float *sums = call->sums;
  fetch weights = call->weights, rows = call->ahead;
  const int64_t chunks = call->chunks;
  vf acc[MR][TILE_NV];
  if (call->resume) {
    UNROLL for (int r = 0; r < mr; r++) UNROLL for (int j = 0; j < np * NV; j++) acc[r][j] =
        vload(sums + (j / NV * MR + r) * MOE_PANEL + j % NV * W);
  } else {
    UNROLL for (int r = 0; r < mr; r++) UNROLL for (int j = 0; j < np * NV; j++) acc[r][j] = vset1(0);
  }
  for (int64_t c = 0; c < chunks; c++) {
    for (int64_t l = 0; l < weights.lines; l++, weights.at += LINE) __builtin_prefetch(weights.at, 0, 2);
    for (int64_t l = 0; l < rows.lines; l++, rows.at += LINE) __builtin_prefetch(rows.at, 0, 2);
    for (int step = 0; step < CHUNK_STEPS; step++) multiply_step(mr, np, acc, a, b, panel, step);
    a += ROW_CHUNK * MR;
    b += PANEL_CHUNK;
  }
  UNROLL for (int r = 0; r < mr; r++) UNROLL for (int j = 0; j < np * NV; j++)
      vstore(sums + (j / NV * MR + r) * MOE_PANEL + j % NV * W, acc[r][j]);
}

/* One function for each shape of TILE_SHAPES, found by [log2 np][mr]; NULL where the machine has no such shape. */
typedef void (*KERNEL(tile_fn))(const tile_call *);
#define DEFINE_TILE(mr, np)                                                                                  \
  static void KERNEL(tile_##mr##x##np)(const tile_call *call) { KERNEL(gemm_tile)(mr, np, call); }
#define TILE_ENTRY(mr, np) [(np) / 2 - (np) / 8][mr] = KERNEL(tile_##mr##x##np),
MOE_JOIN(TILE_SHAPES, ISA)(DEFINE_TILE) static const KERNEL(tile_fn)
    KERNEL(tiles)[4][MR + 1] = {MOE_JOIN(TILE_SHAPES, ISA)(TILE_ENTRY)};
#undef DEFINE_TILE
#undef TILE_ENTRY

/* Panels that a tile of `mr` rows takes at a time, as log2: the widest shape with at most `panels`. */
INLINE int KERNEL(tile_width)(int mr, int64_t panels) {
  for (int l = 3; l > 0; l--)
    if ((1 << l) <= panels && KERNEL(tiles)[l][mr]) return l;
  return 0;
}

/* The sums of a block over the next `chunks` chunks of k: all its row tiles times all its panels, from the place of `at`
 * on. While a group of panels is used, the next group is fetched into L2, and with the last group the rows of the next
 * chunks: a group lasts a few thousand cycles, and the hardware's own prefetch begins too late for memory. `more` says
 * that such chunks follow. Where panels lie in L2 already, `source` is fetched instead; otherwise it is NULL. */
INLINE void KERNEL(multiply_chunks)(const gemm_block *at, int64_t chunks, bool resume, bool more,
                                    const fetch_runs *source) {
  const gemm_block g = *at;
  const size_t a_chunk = ROW_CHUNK * MR;
  const int64_t row_tiles = (g.count + g.height - 1) / g.height;
  const int first = (int)(g.count < g.height ? g.count : g.height);
  /* Each tile fetches a piece of a run, of as many lines with each chunk as the runs need. */
  int64_t pieces = 0, piece = 1;
  if (source) {
    const int64_t calls = row_tiles * (g.width >> KERNEL(tile_width)(first, g.width));
    while (piece * 2 * CHUNK_STEPS <= source->lines &&
           calls * piece * CHUNK_STEPS < source->runs * source->lines)
      piece *= 2;
  }
  for (int64_t p = 0, np; p < g.width; p += np) {
    const int l = KERNEL(tile_width)(first, g.width - p);
    np = 1 << l;
    const bool last = p + np >= g.width;
    const char *next = last ? g.panels + chunks * PANEL_CHUNK : g.panels + (p + np) * g.panel;
    /* Tiles share the panels of the next group among themselves; a single tile streams by itself. */
    const int64_t share = (row_tiles + np - 1) / np;
    const int64_t lines = (more || !last) && row_tiles > 1 ? (PANEL_CHUNK / LINE + share - 1) / share : 0;
    for (int64_t t = 0; t < row_tiles; t++) {
      const char *rows = g.rows + t * g.row_tile;
      const int64_t left = g.count - t * g.height;
      fetch weights = {next + t / share * g.panel + t % share * lines * chunks * LINE, lines};
      if (source) {
        const int64_t line = pieces++ * piece * CHUNK_STEPS, run = line / source->lines;
        weights = run < source->runs
                      ? (fetch){source->at + run * source->stride + line % source->lines * LINE, piece}
                      : (fetch){next, 0};
      }
      const tile_call call = {
          .rows = rows,
          .panels = g.panels + p * g.panel,
          .panel = g.panel,
          .sums = g.sums + (t * g.width + p) * MR * MOE_PANEL,
          .chunks = chunks,
          .resume = resume,
          .weights = weights,
          .ahead = {rows + chunks * a_chunk, last && more && row_tiles > 1 ? (int64_t)a_chunk / LINE : 0}};
      KERNEL(tiles)[l][left < g.height ? left : g.height](&call);
    }
  }
}
