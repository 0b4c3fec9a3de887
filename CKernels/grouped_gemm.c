/* Grouped GEMM: how ragged groups become tasks, and which machine runs them.
 *
 * A task is (expert, block of columns, block of rows), rows innermost: threads that work side by side then
 * share a block of weights in the last-level cache, and memory is read once. */
#include "layout.h"
#include "parallel.h"

#define TEMPLATE "../grouped_gemm.inc.h"
#include "isa/foreach.h"

/* A task's rows and panels: with 144 rows (AVX-512) its slice of rows, its panels and its sums take about
 * half of a 1 MiB L2, at 256 values of k. */
enum { BLOCK_TILES = 12, BLOCK_PANELS = 16 };

typedef void (*gemm_fn)(bool, const char *, size_t, int64_t, int64_t, const char *, size_t, int64_t, int64_t,
                        float *);
typedef void (*activate_fn)(bool, const float *, int64_t, int64_t, int64_t, int64_t, bool, const float *,
                            const float *, moe_activation, float, float, char *, size_t);
typedef void (*store_fn)(const float *, int64_t, int64_t, int64_t, int64_t, const float *, float *, int64_t);
static const gemm_fn gemm_table[MOE_ISA_COUNT] = ISA_TABLE(gemm_rows_by_columns);
static const activate_fn activate_table[MOE_ISA_COUNT] = ISA_TABLE(activate_block);
static const store_fn store_table[MOE_ISA_COUNT] = ISA_TABLE(store_block);

typedef struct {
  moe_execution ex;
  moe_dtype dtype;
  int64_t E, MR, K, panels, width; /* panels of one expert, and of one task */
  const int64_t *offsets;
  const char *rows, *weights;
  size_t row_tile, panel;
  float *sums; /* [thread][tile][panel][MR][16] */
  /* up */
  int64_t F;
  const float *gate_bias, *up_bias;
  moe_activation activation;
  float alpha, limit;
  char *hidden;
  size_t hidden_tile;
  /* down */
  int64_t D;
  const float *bias;
  float *y;
} gemm_args;

static size_t sums_bytes(moe_isa isa) {
  return (size_t)(BLOCK_TILES * BLOCK_PANELS * MOE_PANEL * moe_tile_rows(isa)) * sizeof(float);
}

size_t moe_grouped_gemm_scratch_bytes(moe_execution ex, int64_t E) {
  (void)E;
  return (size_t)ex.threads * sums_bytes(ex.isa);
}

static void gemm_task(void *context, int64_t task, int thread) {
  const gemm_args *g = context;
  const int64_t unit = BLOCK_TILES * g->MR, column_blocks = ceil_div(g->panels, g->width);
  const int64_t e = group_of_task(g->offsets, g->E, unit, column_blocks, task);
  const int64_t within = task - first_unit(g->offsets, e, unit) * column_blocks;
  const int64_t group_rows = g->offsets[e + 1] - g->offsets[e], tiles = ceil_div(group_rows, g->MR);
  const int64_t row_blocks = ceil_div(tiles, BLOCK_TILES);
  if (within >= row_blocks * column_blocks) return;

  /* Blocks of equal numbers of tiles of equal heights, so that none is a remnant. */
  const int64_t height = tile_height(group_rows, g->MR), block_tiles = ceil_div(tiles, row_blocks);
  const int64_t tile = within % row_blocks * block_tiles;
  const int64_t row = g->offsets[e] + tile * height;
  const int64_t rows = min64(block_tiles * height, g->offsets[e + 1] - row);
  if (rows <= 0) return;
  const int64_t panel0 = within / row_blocks * g->width, panels = min64(g->width, g->panels - panel0);
  const int64_t first_tile = first_unit(g->offsets, e, g->MR) + tile;
  const bool bf16 = g->dtype == MOE_BF16;
  float *sums = (float *)((char *)g->sums + (size_t)thread * sums_bytes(g->ex.isa));

  gemm_table[g->ex.isa](bf16, g->rows + (size_t)first_tile * g->row_tile, g->row_tile, rows, height,
                        g->weights + (size_t)(e * g->panels + panel0) * g->panel, g->panel, panels,
                        panel_chunks(g->dtype, g->K), sums);
  if (g->y) {
    const float *bias = g->bias ? g->bias + e * g->panels * MOE_PANEL : NULL;
    store_table[g->ex.isa](sums, rows, height, panels, panel0, bias, g->y + row * g->D, g->D);
  } else {
    const bool gated = moe_is_gated(g->activation);
    const int64_t features = round_up(g->F, MOE_K_MULTIPLE);
    activate_table[g->ex.isa](bf16, sums, rows, height, panels, gated ? panel0 / 2 : panel0, gated,
                              g->gate_bias ? g->gate_bias + e * features : NULL,
                              g->up_bias ? g->up_bias + e * features : NULL, g->activation, g->alpha,
                              g->limit, g->hidden + (size_t)first_tile * g->hidden_tile, g->hidden_tile);
  }
}

static void run(gemm_args *g) {
  g->MR = moe_tile_rows(g->ex.isa);
  g->row_tile = tile_bytes(g->ex.isa, g->dtype, g->K);
  g->panel = panel_bytes(g->dtype, g->K);
  const int64_t units = unit_bound(g->offsets[g->E], g->E, BLOCK_TILES * g->MR);
  /* Narrower tasks where there are few, so that no thread waits long for the last one. */
  g->width = BLOCK_PANELS;
  while (g->width > 4 && units * ceil_div(g->panels, g->width) < 32 * g->ex.threads) g->width /= 2;
  moe_parallel_for(g->ex.threads, units * ceil_div(g->panels, g->width), gemm_task, g);
}

void moe_grouped_gemm_up(moe_execution ex, moe_dtype dtype, const void *row_tiles, int64_t E,
                         const int64_t *offsets, int64_t D, int64_t F, const void *panels,
                         const float *gate_bias, const float *up_bias, moe_activation activation, float alpha,
                         float limit, void *hidden_tiles, void *scratch) {
  run(&(gemm_args){.ex = ex,
                   .dtype = dtype,
                   .E = E,
                   .K = D,
                   .panels = round_up(F, MOE_K_MULTIPLE) / MOE_PANEL * (moe_is_gated(activation) ? 2 : 1),
                   .offsets = offsets,
                   .rows = row_tiles,
                   .weights = panels,
                   .sums = scratch,
                   .F = F,
                   .gate_bias = gate_bias,
                   .up_bias = up_bias,
                   .activation = activation,
                   .alpha = alpha,
                   .limit = limit,
                   .hidden = hidden_tiles,
                   .hidden_tile = tile_bytes(ex.isa, dtype, F)});
}

void moe_grouped_gemm_down(moe_execution ex, moe_dtype dtype, const void *hidden_tiles, int64_t E,
                           const int64_t *offsets, int64_t F, int64_t D, const void *panels,
                           const float *bias, float *y, void *scratch) {
  run(&(gemm_args){.ex = ex,
                   .dtype = dtype,
                   .E = E,
                   .K = F,
                   .panels = ceil_div(D, MOE_PANEL),
                   .offsets = offsets,
                   .rows = hidden_tiles,
                   .weights = panels,
                   .sums = scratch,
                   .D = D,
                   .bias = bias,
                   .y = y});
}
