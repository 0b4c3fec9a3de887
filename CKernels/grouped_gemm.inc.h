/* Grouped GEMM over ragged groups of rows: one task is a block of rows of one expert times a block of columns.
 *
 * SHAPES       row tiles of group e (gather.inc.h) · panels of expert e (pack.c) → sums [tile][panel][MR][16]
 * DEFINITION   up:   h[m][f] = act(Σ_d gate[e][f][d]·x[m][d] + b, Σ_d up[e][f][d]·x[m][d] + b)
 *              down: y[m][d] = Σ_f down[e][d][f]·h[m][f] + b
 *              transposed: to[k/16][n][k%16] = from[n/16][k][n%16], 0 where there is no panel n/16
 * REGULARITIES Rows per expert range from 1 (decoding) to thousands. A weight is read from memory once for a block of
 *              rows, a row from L2 once for a block of columns. With several tiles k is blocked so that a group of panels
 *              stays in L1; with one tile nothing is reused, and the panels stream whole. In the backward pass
 *              16 values of n by 16 of k are contiguous before and after the transposition.
 * EXAMPLE      1024×3584, 128 rows per expert, AVX-512: 11 tiles, 16 panels (8 gate + 8 up) per task. */

#include "gemm_tile.inc.h"
#include "math.inc.h"

/* The sums of a block: its rows times its panels. */
static void KERNEL(multiply_by_columns)(const gemm_product *product, const gemm_block *block) {
  (void)product;
  gemm_block at = *block;
  const int64_t each = at.count > at.height ? BLOCK_CHUNKS : at.chunks;
  for (int64_t c = 0; c < at.chunks; c += each) {
    const int64_t n = at.chunks - c < each ? at.chunks - c : each;
    at.rows = block->rows + c * (ROW_CHUNK * MR);
    at.panels = block->panels + c * PANEL_CHUNK;
    KERNEL(multiply_chunks)(&at, n, c > 0, c + n < at.chunks, NULL);
  }
}

/* Transposes `count` panels from `from` on, of which `there` exist, at the k of `width` panels: to panels `stride` bytes
 * apart. */
static void KERNEL(transpose_block)(const char *from, size_t panel, int64_t there, int64_t count,
                                    int64_t width, char *to, size_t stride) {
  for (int64_t q = 0; q < count; q++)
    for (int64_t p = 0; p < width; p++) {
      char *target = to + p * stride + q * SQUARE;
      if (q >= there)
        memset(target, 0, SQUARE);
      else
        transpose_square(from + q * panel + p * SQUARE, target);
    }
}

/* The sums of a block: its rows times the transpose of panels over its columns. */
static void KERNEL(multiply_by_transposed)(const gemm_product *product, const gemm_block *block) {
  enum { PER = STEP_K }; /* panels of the weights in a chunk of their transpose */
  const char *from = block->panels;
  const size_t panel = product->panel;
  const int64_t count = product->transposed;
  gemm_block at = *block;
  at.panels = block->transposed;
  at.panel = BLOCK_CHUNKS * PANEL_CHUNK;
  for (int64_t c = 0; c < at.chunks; c += BLOCK_CHUNKS) {
    const int64_t n = at.chunks - c < BLOCK_CHUNKS ? at.chunks - c : BLOCK_CHUNKS;
    KERNEL(transpose_block)(from + c * PER * panel, panel, count - c * PER, n * PER, at.width,
                            block->transposed, at.panel);
    const int64_t left = count - (c + n) * PER;
    const fetch_runs next = {from + (c + n) * PER * panel, panel,
                             left < BLOCK_CHUNKS * PER ? left : BLOCK_CHUNKS * PER,
                             at.width * (SQUARE / LINE)};
    at.rows = block->rows + c * (ROW_CHUNK * MR);
    KERNEL(multiply_chunks)(&at, n, c > 0, c + n < at.chunks, &next);
  }
}

/* ---- epilogues ------------------------------------------------------------------------------------------- */

/* The sums of row r of tile t with panel p of a block. */
INLINE const float *KERNEL(sums_of)(const gemm_block *g, int64_t t, int64_t p, int64_t r) {
  return g->sums + ((t * g->width + p) * MR + r) * MOE_PANEL;
}

/* Rows of tile t of a block; 0 behind the last one. */
INLINE int64_t KERNEL(rows_of)(const gemm_block *g, int64_t t) {
  const int64_t left = g->count - t * g->height;
  return left < g->height ? left : g->height;
}

/* Records the sums of the first product with their biases, as float32 row tiles over the columns of the panels, for the
 * backward pass. */
static void KERNEL(record)(const gemm_product *product, const gemm_block *block) {
  const gemm_block g = *block;
  const moe_networks *networks = product->networks;
  const bool gated = is_gated(networks->activation);
  const int64_t features = round_up(networks->F, MOE_K_MULTIPLE);
  const float *gate_bias = networks->gate_bias ? networks->gate_bias + g.group * features : NULL;
  const float *up_bias = networks->up_bias ? networks->up_bias + g.group * features : NULL;
  const size_t tile = product->recorded_tile;
  char *tiles = (char *)product->recorded + (size_t)g.tile * tile;
  for (int64_t t = 0; t * g.height < g.count; t++) {
    const int64_t mr = KERNEL(rows_of)(&g, t);
    float *to = (float *)(tiles + t * tile);
    for (int64_t p = 0; p < g.width; p++) {
      const int64_t panel = g.first_panel + p;
      const float *bias = gated && panel % 2 == 0 ? gate_bias : up_bias;
      for (int64_t r = 0; r < mr; r++)
        for (int j = 0; j < NV; j++) {
          vf v = vload(KERNEL(sums_of)(&g, t, p, r) + j * W);
          if (bias) v = vadd(v, vload(bias + (gated ? panel / 2 : panel) * MOE_PANEL + j * W));
          vstore(to + (panel * MR + r) * MOE_PANEL + j * W, v);
        }
    }
  }
}

/* After the first product: adds biases, applies the activation, and stores the rows as tiles for the second product. The
 * panels of a gated activation are pairs (gate, up). */
static void KERNEL(activate)(const gemm_product *product, const gemm_block *block) {
  if (product->recorded) KERNEL(record)(product, block);
  const gemm_block g = *block;
  const moe_networks *networks = product->networks;
  const moe_activation activation = networks->activation;
  const float alpha = networks->alpha, limit = networks->limit;
  const bool gated = is_gated(activation);
  const int64_t per = gated ? 2 : 1, features = round_up(networks->F, MOE_K_MULTIPLE);
  const int64_t first_panel = g.first_panel / per;
  const float *gate_bias = networks->gate_bias ? networks->gate_bias + g.group * features : NULL;
  const float *up_bias = networks->up_bias ? networks->up_bias + g.group * features : NULL;
  const size_t tile = product->hidden_tile;
  char *hidden = product->hidden + (size_t)g.tile * tile;
  for (int64_t t = 0; t * g.height < g.count; t++) {
    const int64_t mr = KERNEL(rows_of)(&g, t);
    for (int64_t p = 0; p < g.width / per; p++) {
      const float *gate = KERNEL(sums_of)(&g, t, p * per, 0), *up = gated ? gate + MR * MOE_PANEL : gate;
      const int64_t f = (first_panel + p) * MOE_PANEL;
      for (int64_t r = 0; r < mr; r++) {
        vf h[NV];
        for (int j = 0; j < NV; j++) {
          vf v = vload(gate + r * MOE_PANEL + j * W), u = vload(up + r * MOE_PANEL + j * W);
          if (gate_bias) v = vadd(v, vload(gate_bias + f + j * W));
          if (up_bias) u = vadd(u, vload(up_bias + f + j * W));
          h[j] = vactivate(activation, v, u, alpha, limit);
        }
        row_store(hidden + t * tile, f, r, h);
      }
    }
  }
}

/* After the backward pass through the second product: dL/dh in the sums and the recorded gate and up give dL/d(gate, up), which
 * become row tiles over the columns of the first product's panels. */
static void KERNEL(activate_backward)(const gemm_product *product, const gemm_block *block) {
  const gemm_block g = *block;
  const moe_activation activation = product->networks->activation;
  const float alpha = product->networks->alpha, limit = product->networks->limit;
  const bool gated = is_gated(activation);
  const size_t recorded_tile = product->recorded_tile, gradient_tile = product->gradient_tile;
  const char *recorded = (const char *)product->recorded + (size_t)g.tile * recorded_tile;
  char *gradients = product->gradients + (size_t)g.tile * gradient_tile;
  for (int64_t t = 0; t * g.height < g.count; t++) {
    const int64_t mr = KERNEL(rows_of)(&g, t);
    const float *from = (const float *)(recorded + t * recorded_tile);
    for (int64_t p = 0; p < g.width; p++) {
      const int64_t panel = g.first_panel + p;
      const int64_t up = gated ? 2 * panel + 1 : panel, gate = gated ? up - 1 : up;
      for (int64_t r = 0; r < mr; r++) {
        const float *v = from + (gate * MR + r) * MOE_PANEL, *u = from + (up * MR + r) * MOE_PANEL;
        const float *dh = KERNEL(sums_of)(&g, t, p, r);
        vf dv[NV], du[NV];
        for (int j = 0; j < NV; j++)
          vactivate_backward(activation, vload(v + j * W), vload(u + j * W), vload(dh + j * W), alpha, limit,
                             &dv[j], &du[j]);
        if (gated) row_store(gradients + t * gradient_tile, gate * MOE_PANEL, r, dv);
        row_store(gradients + t * gradient_tile, up * MOE_PANEL, r, du);
      }
    }
  }
}

/* After a product with row-major rows: adds the bias if there is one, adds y if `add` is set, and stores the rows. */
static void KERNEL(store)(const gemm_product *product, const gemm_block *block) {
  const gemm_block g = *block;
  const int64_t columns = product->columns;
  const bool add = product->add;
  const float *bias = product->bias ? product->bias + g.group * product->panels * MOE_PANEL : NULL;
  float *y = product->y + g.row * columns;
  for (int64_t t = 0; t * g.height < g.count; t++)
    for (int64_t r = 0; r < g.height && t * g.height + r < g.count; r++)
      for (int64_t p = 0; p < g.width; p++)
        for (int j = 0; j < NV; j++) {
          const int64_t d = (g.first_panel + p) * MOE_PANEL + j * W;
          vf v = vload(KERNEL(sums_of)(&g, t, p, r) + j * W);
          if (bias) v = vadd(v, vload(bias + d));
          const int left = columns - d < W ? (int)(columns - d) : W;
          if (left <= 0) continue;
          float *to = y + (t * g.height + r) * columns + d;
          if (add) v = vadd(vload_n(to, left), v);
          if (left == W)
            vstore(to, v);
          else
            vstore_n(to, v, left);
        }
}
