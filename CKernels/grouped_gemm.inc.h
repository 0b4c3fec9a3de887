/* Grouped GEMM over ragged expert groups: one task is a block of rows of one expert times a block of columns.
 *
 * SHAPES       row tiles of group e (gather.inc.h) · panels of expert e (pack.c) → sums [tile][panel][MR][16]
 * DEFINITION   up:   h[m][f] = act(Σ_d gate[e][f][d]·x[m][d] + b, Σ_d up[e][f][d]·x[m][d] + b)
 *              down: y[m][d] = Σ_f down[e][d][f]·h[m][f] + b
 * REGULARITIES Rows per expert range from 1 (decoding) to thousands. A weight is read from memory once for a
 *              block of rows, a row from L2 once for a block of columns. With several tiles k is blocked so that
 *              a group of panels stays in L1; with one tile nothing is reused and the panels stream whole.
 * EXAMPLE      1024×3584, 128 rows an expert, AVX-512: 11 tiles, 16 panels (8 gate + 8 up) a task. */

#include "gemm_tile.inc.h"
#include "math.inc.h"
#include "transpose.inc.h"

#define gemm_rows_by_columns SUFFIX(gemm_rows_by_columns)
static void gemm_rows_by_columns(bool bf16, const char *a, size_t a_tile, int64_t rows, int64_t height,
                                 const char *b, size_t panel, int64_t panels, int64_t chunks, float *sums) {
  const int64_t block = rows > height ? 16 : chunks;
  const size_t a_chunk = bf16 ? BF16_CHUNK_BYTES * MR : 64 * MR;
  for (int64_t c = 0; c < chunks; c += block) {
    const int64_t n = chunks - c < block ? chunks - c : block;
    gemm_block(bf16, a + c * a_chunk, a_tile, rows, height, b + c * 1024, panel, panels, sums, n, c > 0,
               c + n < chunks, NULL);
  }
}

/* The same with the transpose of `from`, `count` panels over the columns: `block` holds what 16 chunks of it are. */
#define gemm_rows_by_transposed SUFFIX(gemm_rows_by_transposed)
static void gemm_rows_by_transposed(bool bf16, const char *a, size_t a_tile, int64_t rows, int64_t height,
                                    const char *from, size_t panel, int64_t count, int64_t panels,
                                    int64_t chunks, char *block, float *sums) {
  const size_t a_chunk = bf16 ? BF16_CHUNK_BYTES * MR : 64 * MR;
  const int64_t per = bf16 ? 2 : 1; /* panels of `from` in a chunk */
  for (int64_t c = 0; c < chunks; c += 16) {
    const int64_t n = chunks - c < 16 ? chunks - c : 16;
    transpose_block(bf16, from + c * per * panel, panel, count - c * per, n * per, panels, block, 16 * 1024);
    const int64_t left = count - (c + n) * per;
    const fetch_runs next = {from + (c + n) * per * panel, panel, left < 16 * per ? left : 16 * per,
                             panels * (bf16 ? 8 : 16)};
    gemm_block(bf16, a + c * a_chunk, a_tile, rows, height, block, 16 * 1024, panels, sums, n, c > 0,
               c + n < chunks, &next);
  }
}

/* 16 values of a row of a tile, from column 16·panel on. */
#define row16_store SUFFIX(row16_store)
INLINE void row16_store(bool bf16, char *tile, int64_t panel, int64_t row, const vf *v) {
  if (bf16)
    row16_store_bf16(tile, panel * 16, (int)row, v);
  else
    for (int j = 0; j < NV; j++) vstore((float *)tile + (panel * MR + row) * 16 + j * W, v[j]);
}

/* Epilogue of the first product: bias, activation, and the rows as tiles of the second. `panel0` is the first
 * feature panel of the block; sums hold `width` panels a tile, pairs (gate, up) where there is a gate. */
#define activate_block SUFFIX(activate_block)
static void activate_block(bool bf16, const float *sums, int64_t rows, int64_t height, int64_t width,
                           int64_t panel0, bool gated, const float *gate_bias, const float *up_bias,
                           moe_activation activation, float alpha, float limit, char *hidden,
                           size_t hidden_tile) {
  const int64_t per = gated ? 2 : 1;
  for (int64_t t = 0; t * height < rows; t++) {
    const int64_t mr = rows - t * height < height ? rows - t * height : height;
    for (int64_t p = 0; p < width / per; p++) {
      const float *gate = sums + (t * width + p * per) * MR * 16, *up = gated ? gate + MR * 16 : gate;
      const int64_t f = (panel0 + p) * 16;
      for (int64_t r = 0; r < mr; r++) {
        vf h[NV];
        for (int j = 0; j < NV; j++) {
          vf g = vload(gate + r * 16 + j * W), u = vload(up + r * 16 + j * W);
          if (gate_bias) g = vadd(g, vload(gate_bias + f + j * W));
          if (up_bias) u = vadd(u, vload(up_bias + f + j * W));
          h[j] = vactivate(activation, g, u, alpha, limit);
        }
        row16_store(bf16, hidden + t * hidden_tile, panel0 + p, r, h);
      }
    }
  }
}

/* What the backward pass needs of the first product: its sums with their biases, as row tiles over the columns of the
 * panels. */
#define record_block SUFFIX(record_block)
static void record_block(const float *sums, int64_t rows, int64_t height, int64_t width, int64_t panel0,
                         bool gated, const float *gate_bias, const float *up_bias, float *tiles,
                         size_t tile_bytes) {
  for (int64_t t = 0; t * height < rows; t++) {
    const int64_t mr = rows - t * height < height ? rows - t * height : height;
    float *to = (float *)((char *)tiles + t * tile_bytes);
    for (int64_t p = 0; p < width; p++) {
      const int64_t panel = panel0 + p;
      const float *bias = gated && panel % 2 == 0 ? gate_bias : up_bias;
      for (int64_t r = 0; r < mr; r++)
        for (int j = 0; j < NV; j++) {
          vf v = vload(sums + ((t * width + p) * MR + r) * 16 + j * W);
          if (bias) v = vadd(v, vload(bias + (gated ? panel / 2 : panel) * 16 + j * W));
          vstore(to + (panel * MR + r) * 16 + j * W, v);
        }
    }
  }
}

/* Epilogue of the backward pass through the second product: dL/dh in the sums and the recorded gate and up give
 * dL/d(gate, up) as row tiles over the same columns. `panel0` is the first panel of h. */
#define activate_backward_block SUFFIX(activate_backward_block)
static void activate_backward_block(bool bf16, const float *sums, int64_t rows, int64_t height, int64_t width,
                                    int64_t panel0, moe_activation activation, float alpha, float limit,
                                    const float *recorded, size_t recorded_tile, char *gradients,
                                    size_t gradient_tile) {
  const bool gated = is_gated(activation);
  for (int64_t t = 0; t * height < rows; t++) {
    const int64_t mr = rows - t * height < height ? rows - t * height : height;
    const float *from = (const float *)((const char *)recorded + t * recorded_tile);
    for (int64_t p = 0; p < width; p++) {
      const int64_t up = gated ? 2 * (panel0 + p) + 1 : panel0 + p, gate = gated ? up - 1 : up;
      for (int64_t r = 0; r < mr; r++) {
        const float *g = from + (gate * MR + r) * 16, *u = from + (up * MR + r) * 16;
        const float *dh = sums + ((t * width + p) * MR + r) * 16;
        vf dg[NV], du[NV];
        for (int j = 0; j < NV; j++)
          vactivate_backward(activation, vload(g + j * W), vload(u + j * W), vload(dh + j * W), alpha, limit,
                             &dg[j], &du[j]);
        if (gated) row16_store(bf16, gradients + t * gradient_tile, gate, r, dg);
        row16_store(bf16, gradients + t * gradient_tile, up, r, du);
      }
    }
  }
}

/* Epilogue of the second product: bias, and the rows row-major. */
#define store_block SUFFIX(store_block)
static void store_block(const float *sums, int64_t rows, int64_t height, int64_t width, int64_t panel0,
                        const float *bias, bool add, float *y, int64_t D) {
  for (int64_t t = 0; t * height < rows; t++)
    for (int64_t r = 0; r < height && t * height + r < rows; r++)
      for (int64_t p = 0; p < width; p++)
        for (int j = 0; j < NV; j++) {
          const int64_t d = (panel0 + p) * 16 + j * W;
          vf v = vload(sums + ((t * width + p) * MR + r) * 16 + j * W);
          if (bias) v = vadd(v, vload(bias + d));
          const int left = D - d < W ? (int)(D - d) : W;
          if (left <= 0) continue;
          float *to = y + (t * height + r) * D + d;
          if (add) v = vadd(vload_n(to, left), v);
          if (left == W)
            vstore(to, v);
          else
            vstore_n(to, v, left);
        }
}
