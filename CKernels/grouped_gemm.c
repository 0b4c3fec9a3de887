/* Grouped GEMM: how ragged groups become tasks, and which machine runs them.
 *
 * A task is (expert, block of columns, block of rows), rows innermost: threads that work side by side then
 * share a block of weights in the last-level cache, and memory is read once. */
#include "layout.h"

#define TEMPLATE "../grouped_gemm.inc.h"
#include "isa/foreach.h"

/* A task's rows and panels: with 144 rows (AVX-512) its slice of rows, its panels and its sums take about half of a
 * 1 MiB L2, at 16 chunks of k. Of transposed panels a task has half as many for twice the rows, because each task
 * transposes its own. */
enum { BLOCK_TILES = 12, BLOCK_PANELS = 16 };

typedef void (*gemm_fn)(bool, const char *, size_t, int64_t, int64_t, const char *, size_t, int64_t, int64_t,
                        float *);
typedef void (*transposed_fn)(bool, const char *, size_t, int64_t, int64_t, const char *, size_t, int64_t,
                              int64_t, int64_t, char *, float *);
typedef void (*activate_fn)(bool, const float *, int64_t, int64_t, int64_t, int64_t, bool, const float *,
                            const float *, moe_activation, float, float, char *, size_t);
typedef void (*store_fn)(const float *, int64_t, int64_t, int64_t, int64_t, const float *, bool, float *,
                         int64_t);
typedef void (*record_fn)(const float *, int64_t, int64_t, int64_t, int64_t, bool, const float *,
                          const float *, float *, size_t);
typedef void (*back_fn)(bool, const float *, int64_t, int64_t, int64_t, int64_t, moe_activation, float, float,
                        const float *, size_t, char *, size_t);
static const gemm_fn gemm_table[MOE_ISA_COUNT] = ISA_TABLE(gemm_rows_by_columns);
static const transposed_fn transposed_table[MOE_ISA_COUNT] = ISA_TABLE(gemm_rows_by_transposed);
static const activate_fn activate_table[MOE_ISA_COUNT] = ISA_TABLE(activate_block);
static const store_fn store_table[MOE_ISA_COUNT] = ISA_TABLE(store_block);
static const record_fn record_table[MOE_ISA_COUNT] = ISA_TABLE(record_block);
static const back_fn back_table[MOE_ISA_COUNT] = ISA_TABLE(activate_backward_block);

typedef struct {
  moe_execution ex;
  moe_dtype dtype;
  int64_t E, MR, K, panels; /* panels of one expert */
  int64_t tiles, width;     /* tiles and panels of one task */
  const int64_t *offsets;
  const char *rows, *weights;
  size_t row_tile, panel;
  int64_t
      transposed; /* panels an expert of what is transposed, 0 for none; then `panel` is the bytes of those */
  char *scratch;  /* [thread]: sums [tile][panel][MR][16] and a transposed block */
  /* up */
  int64_t F;
  const float *gate_bias, *up_bias;
  moe_activation activation;
  float alpha, limit;
  char *hidden;
  size_t hidden_tile;
  float *recorded; /* where the sums of the first product go, or come from on the way back */
  size_t recorded_tile;
  char *gradients; /* set on the way back */
  size_t gradient_tile;
  /* down */
  int64_t D;
  const float *bias;
  bool add;
  float *y;
} gemm_args;

static size_t sums_bytes(moe_isa isa) {
  return (size_t)(BLOCK_TILES * BLOCK_PANELS * MOE_PANEL * moe_tile_rows(isa)) * sizeof(float);
}

/* 16 chunks of a task's panels. */
enum { TRANSPOSED_BYTES = BLOCK_PANELS / 2 * 16 * 1024 };

size_t moe_grouped_gemm_scratch_bytes(moe_execution ex, int64_t E) {
  (void)E;
  return (size_t)ex.threads * (sums_bytes(ex.isa) + TRANSPOSED_BYTES);
}

static void gemm_task(void *context, int64_t task, int thread) {
  const gemm_args *g = context;
  const int64_t unit = g->tiles * g->MR, column_blocks = ceil_div(g->panels, g->width);
  const int64_t e = group_of_task(g->offsets, g->E, unit, column_blocks, task);
  const int64_t within = task - first_unit(g->offsets, e, unit) * column_blocks;
  const int64_t group_rows = g->offsets[e + 1] - g->offsets[e], tiles = ceil_div(group_rows, g->MR);
  const int64_t row_blocks = ceil_div(tiles, g->tiles);
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
  char *scratch = g->scratch + (size_t)thread * (sums_bytes(g->ex.isa) + TRANSPOSED_BYTES);
  float *sums = (float *)scratch;
  const char *a = g->rows + (size_t)first_tile * g->row_tile;
  const int64_t chunks = panel_chunks(g->dtype, g->K);

  if (g->transposed)
    transposed_table[g->ex.isa](bf16, a, g->row_tile, rows, height,
                                g->weights + (size_t)(e * g->transposed) * g->panel +
                                    panel_bytes(g->dtype, MOE_K_MULTIPLE) / 2 * panel0,
                                g->panel, g->transposed, panels, chunks, scratch + sums_bytes(g->ex.isa),
                                sums);
  else
    gemm_table[g->ex.isa](bf16, a, g->row_tile, rows, height,
                          g->weights + (size_t)(e * g->panels + panel0) * g->panel, g->panel, panels, chunks,
                          sums);
  const bool gated = is_gated(g->activation);
  if (g->y) {
    const float *bias = g->bias ? g->bias + e * g->panels * MOE_PANEL : NULL;
    store_table[g->ex.isa](sums, rows, height, panels, panel0, bias, g->add, g->y + row * g->D, g->D);
  } else if (g->gradients) {
    back_table[g->ex.isa](bf16, sums, rows, height, panels, panel0, g->activation, g->alpha, g->limit,
                          (const float *)((const char *)g->recorded + (size_t)first_tile * g->recorded_tile),
                          g->recorded_tile, g->gradients + (size_t)first_tile * g->gradient_tile,
                          g->gradient_tile);
  } else {
    const int64_t features = round_up(g->F, MOE_K_MULTIPLE);
    const float *gate_bias = g->gate_bias ? g->gate_bias + e * features : NULL;
    const float *up_bias = g->up_bias ? g->up_bias + e * features : NULL;
    if (g->recorded)
      record_table[g->ex.isa](sums, rows, height, panels, panel0, gated, gate_bias, up_bias,
                              (float *)((char *)g->recorded + (size_t)first_tile * g->recorded_tile),
                              g->recorded_tile);
    activate_table[g->ex.isa](bf16, sums, rows, height, panels, gated ? panel0 / 2 : panel0, gated, gate_bias,
                              up_bias, g->activation, g->alpha, g->limit,
                              g->hidden + (size_t)first_tile * g->hidden_tile, g->hidden_tile);
  }
}

static void run(gemm_args *g) {
  g->MR = moe_tile_rows(g->ex.isa);
  g->row_tile = tile_bytes(g->ex.isa, g->dtype, g->K);
  if (!g->transposed) g->panel = panel_bytes(g->dtype, g->K);
  const int share = g->transposed ? 2 : 1;
  g->tiles = BLOCK_TILES * share;
  const int64_t units = unit_bound(g->offsets[g->E], g->E, g->tiles * g->MR);
  /* Narrower tasks where there are few, so that no thread waits long for the last one. */
  g->width = BLOCK_PANELS / share;
  while (g->width > 4 && units * ceil_div(g->panels, g->width) < 32 * g->ex.threads) g->width /= 2;
  moe_parallel_for(g->ex.threads, units * ceil_div(g->panels, g->width), gemm_task, g);
}

/* Panels of the first product, up to whole pairs: what a recorded tile is over. */
static int64_t up_panels(int64_t F, moe_activation activation) {
  return round_up(F, MOE_K_MULTIPLE) / MOE_PANEL * (is_gated(activation) ? 2 : 1);
}

static void run_up(moe_execution ex, moe_dtype dtype, const void *row_tiles, int64_t E,
                   const int64_t *offsets, int64_t D, int64_t F, const void *panels, const float *gate_bias,
                   const float *up_bias, moe_activation activation, float alpha, float limit, float *recorded,
                   void *hidden_tiles, void *scratch) {
  const int64_t count = up_panels(F, activation);
  run(&(gemm_args){.ex = ex,
                   .dtype = dtype,
                   .E = E,
                   .K = D,
                   .panels = count,
                   .offsets = offsets,
                   .rows = row_tiles,
                   .weights = panels,
                   .scratch = scratch,
                   .F = F,
                   .gate_bias = gate_bias,
                   .up_bias = up_bias,
                   .activation = activation,
                   .alpha = alpha,
                   .limit = limit,
                   .hidden = hidden_tiles,
                   .hidden_tile = tile_bytes(ex.isa, dtype, F),
                   .recorded = recorded,
                   .recorded_tile = tile_bytes(ex.isa, MOE_F32, count * MOE_PANEL)});
}

void moe_grouped_gemm_up(moe_execution ex, moe_dtype dtype, const void *row_tiles, int64_t E,
                         const int64_t *offsets, int64_t D, int64_t F, const void *panels,
                         const float *gate_bias, const float *up_bias, moe_activation activation, float alpha,
                         float limit, void *hidden_tiles, void *scratch) {
  run_up(ex, dtype, row_tiles, E, offsets, D, F, panels, gate_bias, up_bias, activation, alpha, limit, NULL,
         hidden_tiles, scratch);
}

void moe_grouped_gemm_up_recorded(moe_execution ex, moe_dtype dtype, const void *row_tiles, int64_t E,
                                  const int64_t *offsets, int64_t D, int64_t F, const void *panels,
                                  const float *gate_bias, const float *up_bias, moe_activation activation,
                                  float alpha, float limit, float *preactivation_tiles, void *hidden_tiles,
                                  void *scratch) {
  run_up(ex, dtype, row_tiles, E, offsets, D, F, panels, gate_bias, up_bias, activation, alpha, limit,
         preactivation_tiles, hidden_tiles, scratch);
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
                   .scratch = scratch,
                   .D = D,
                   .bias = bias,
                   .y = y});
}

void moe_grouped_gemm_down_backward(moe_execution ex, moe_dtype dtype, const void *dy_tiles, int64_t E,
                                    const int64_t *offsets, int64_t D, int64_t F, const void *panels,
                                    moe_activation activation, float alpha, float limit,
                                    const float *preactivation_tiles, void *preactivation_gradient_tiles,
                                    void *scratch) {
  const int64_t columns = up_panels(F, activation) * MOE_PANEL;
  run(&(gemm_args){.ex = ex,
                   .dtype = dtype,
                   .E = E,
                   .K = D,
                   .panels = round_up(F, MOE_K_MULTIPLE) / MOE_PANEL,
                   .offsets = offsets,
                   .rows = dy_tiles,
                   .weights = panels,
                   .panel = panel_bytes(dtype, F),
                   .transposed = ceil_div(D, MOE_PANEL),
                   .scratch = scratch,
                   .activation = activation,
                   .alpha = alpha,
                   .limit = limit,
                   .recorded = (float *)preactivation_tiles,
                   .recorded_tile = tile_bytes(ex.isa, MOE_F32, columns),
                   .gradients = preactivation_gradient_tiles,
                   .gradient_tile = tile_bytes(ex.isa, dtype, columns)});
}

void moe_grouped_gemm_backward(moe_execution ex, moe_dtype dtype, const void *gradient_tiles, int64_t panels,
                               int64_t E, const int64_t *offsets, int64_t K, const void *weights, bool add,
                               float *y, void *scratch) {
  run(&(gemm_args){.ex = ex,
                   .dtype = dtype,
                   .E = E,
                   .K = panels * MOE_PANEL,
                   .panels = ceil_div(K, MOE_PANEL),
                   .offsets = offsets,
                   .rows = gradient_tiles,
                   .weights = weights,
                   .panel = panel_bytes(dtype, K),
                   .transposed = panels,
                   .scratch = scratch,
                   .D = K,
                   .add = add,
                   .y = y});
}
