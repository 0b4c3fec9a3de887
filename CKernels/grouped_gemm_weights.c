/* Weight gradients of ragged groups: blocks of an expert's weights are tasks; and the transposed panels that the rows
 * go back through. */
#include "layout.h"
#include "parallel.h"
#include <string.h>

#define TEMPLATE "../grouped_gemm_weights.inc.h"
#include "isa/foreach.h"

/* A task's weights: with 128 rows its rows, its gradients and its sums take about a quarter of a 1 MiB L2. */
enum { BLOCK_K = 128, BLOCK_PANELS = 12 };

typedef void (*outer_fn)(const char *, size_t, const char *, size_t, int64_t, int64_t, int64_t, int64_t,
                         int64_t, float *, int64_t);
typedef void (*sum_fn)(const char *, size_t, int64_t, int64_t, int64_t, float *);
static const outer_fn outer_table[MOE_ISA_COUNT] = ISA_TABLE(outer_block);
static const sum_fn sum_table[MOE_ISA_COUNT] = ISA_TABLE(sum_rows);

typedef struct {
  moe_isa isa;
  int64_t E, K, panels, MR;
  const int64_t *offsets;
  const char *rows, *gradients;
  size_t row_tile, gradient_tile;
  float *weights;
} outer_args;

static void outer_task(void *context, int64_t task, int thread) {
  (void)thread;
  const outer_args *g = context;
  const int64_t K = round_up(g->K, MOE_K_MULTIPLE), k_blocks = ceil_div(K, BLOCK_K);
  const int64_t panel_blocks = ceil_div(g->panels, BLOCK_PANELS);
  const int64_t e = task / (k_blocks * panel_blocks), within = task % (k_blocks * panel_blocks);
  const int64_t rows = g->offsets[e + 1] - g->offsets[e], tile = first_unit(g->offsets, e, g->MR);
  if (rows == 0) return;
  const int64_t panel = within / k_blocks * BLOCK_PANELS, k = within % k_blocks * BLOCK_K;
  outer_table[g->isa](g->rows + (size_t)tile * g->row_tile, g->row_tile,
                      g->gradients + (size_t)tile * g->gradient_tile + (size_t)(panel * g->MR) * 64,
                      g->gradient_tile, rows, tile_height(rows, g->MR),
                      min64(BLOCK_PANELS, g->panels - panel), k, min64(K, k + BLOCK_K),
                      g->weights + (e * g->panels + panel) * K * MOE_PANEL, K * MOE_PANEL);
}

void moe_grouped_gemm_weights(moe_execution ex, const float *row_tiles, int64_t K,
                              const float *gradient_tiles, int64_t panels, int64_t E, const int64_t *offsets,
                              float *weight_gradients) {
  outer_args g = {.isa = ex.isa,
                  .E = E,
                  .K = K,
                  .panels = panels,
                  .MR = moe_tile_rows(ex.isa),
                  .offsets = offsets,
                  .rows = (const char *)row_tiles,
                  .gradients = (const char *)gradient_tiles,
                  .row_tile = tile_bytes(ex.isa, MOE_F32, K),
                  .gradient_tile = tile_bytes(ex.isa, MOE_F32, panels * MOE_PANEL),
                  .weights = weight_gradients};
  const int64_t blocks = ceil_div(round_up(K, MOE_K_MULTIPLE), BLOCK_K) * ceil_div(panels, BLOCK_PANELS);
  moe_parallel_for(ex.threads, E * blocks, outer_task, &g);
}

static void sum_task(void *context, int64_t e, int thread) {
  (void)thread;
  const outer_args *g = context;
  const int64_t rows = g->offsets[e + 1] - g->offsets[e], tile = first_unit(g->offsets, e, g->MR);
  if (rows > 0)
    sum_table[g->isa](g->gradients + (size_t)tile * g->gradient_tile, g->gradient_tile, rows,
                      tile_height(rows, g->MR), g->panels, g->weights + e * g->panels * MOE_PANEL);
}

void moe_group_sums(moe_execution ex, const float *gradient_tiles, int64_t panels, int64_t E,
                    const int64_t *offsets, float *sums) {
  outer_args g = {.isa = ex.isa,
                  .E = E,
                  .panels = panels,
                  .MR = moe_tile_rows(ex.isa),
                  .offsets = offsets,
                  .gradients = (const char *)gradient_tiles,
                  .gradient_tile = tile_bytes(ex.isa, MOE_F32, panels * MOE_PANEL),
                  .weights = sums};
  moe_parallel_for(ex.threads, E, sum_task, &g);
}

/* ---- transposed panels ---------------------------------------------------------------------------------- */

typedef struct {
  const float *src;
  int64_t panels, K, columns, rows; /* transposed panels of an expert, of `rows` values */
  float *dst;
} transpose_args;

typedef float quad __attribute__((vector_size(16), aligned(4)));

/* 4×4 of a 16×16 block, in the compiler's own vectors: the same code for every machine, and memory is the limit. */
static inline void transpose_quads(const float *from, float *to) {
  const quad a = *(const quad *)from, b = *(const quad *)(from + 16);
  const quad c = *(const quad *)(from + 32), d = *(const quad *)(from + 48);
  const quad ab = __builtin_shufflevector(a, b, 0, 4, 1, 5), AB = __builtin_shufflevector(a, b, 2, 6, 3, 7);
  const quad cd = __builtin_shufflevector(c, d, 0, 4, 1, 5), CD = __builtin_shufflevector(c, d, 2, 6, 3, 7);
  *(quad *)to = __builtin_shufflevector(ab, cd, 0, 1, 4, 5);
  *(quad *)(to + 16) = __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
  *(quad *)(to + 32) = __builtin_shufflevector(AB, CD, 0, 1, 4, 5);
  *(quad *)(to + 48) = __builtin_shufflevector(AB, CD, 2, 3, 6, 7);
}

static void transpose_panel(void *context, int64_t task, int thread) {
  (void)thread;
  const transpose_args *g = context;
  const int64_t e = task / g->columns, c = task % g->columns, K = round_up(g->K, MOE_K_MULTIPLE);
  float *dst = g->dst + task * g->rows * MOE_PANEL;
  for (int64_t p = 0; p < g->panels; p++) {
    const float *from = g->src + ((e * g->panels + p) * K + c * MOE_PANEL) * MOE_PANEL;
    float *to = dst + p * MOE_PANEL * MOE_PANEL;
    for (int n = 0; n < MOE_PANEL; n += 4)
      for (int k = 0; k < MOE_PANEL; k += 4)
        transpose_quads(from + k * MOE_PANEL + n, to + n * MOE_PANEL + k);
  }
  memset(dst + g->panels * MOE_PANEL * MOE_PANEL, 0,
         (size_t)(g->rows - g->panels * MOE_PANEL) * MOE_PANEL * sizeof(float));
}

size_t moe_transposed_panels_bytes(int64_t panels, int64_t columns) {
  return (size_t)columns * panel_bytes(MOE_F32, panels * MOE_PANEL);
}

void moe_transpose_panels(moe_execution ex, const float *src, int64_t E, int64_t panels, int64_t K,
                          int64_t columns, float *dst) {
  transpose_args g = {src, panels, K, columns, round_up(panels * MOE_PANEL, MOE_K_MULTIPLE), dst};
  moe_parallel_for(ex.threads, E * columns, transpose_panel, &g);
}
