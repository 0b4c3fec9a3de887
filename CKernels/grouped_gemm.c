/* Grouped GEMM: how ragged groups become tasks, and which instance runs them.
 *
 * A task is (expert, block of columns, block of rows), rows innermost: threads that work side by side then share a block
 * of weights in the last-level cache, and memory is read once. */
#include "gemm.h"

enum {
  /* Row tiles and panels of a task: with 144 rows (AVX-512) its slice of rows, its panels and its sums take about half of
   * a 1 MiB L2, at BLOCK_CHUNKS chunks of k. */
  BLOCK_TILES = 12,
  BLOCK_PANELS = 16,
  /* Chunks of k that a block of rows takes at a time: 2 panels of them, 32 KiB, stay in L1 for all tiles. */
  BLOCK_CHUNKS = 16,
  /* Where panels are transposed, a task has half as many panels for twice the rows, because each task transposes its
   * own. */
  TRANSPOSED_SHARE = 2,
  TRANSPOSED_BYTES = BLOCK_PANELS / TRANSPOSED_SHARE * BLOCK_CHUNKS * CHUNK_BYTES,
  /* Tasks are made narrower, down to LEAST_PANELS panels, until each thread has TASKS_PER_THREAD tasks. */
  LEAST_PANELS = 4,
  TASKS_PER_THREAD = 32
};

#define TEMPLATE "../grouped_gemm.inc.h"
#define PER_FORMAT
#include "isa/foreach.h"

static const gemm_fn columns_table[MOE_ISA_COUNT][MOE_FORMAT_COUNT] = FORMAT_TABLE(multiply_by_columns);
static const gemm_fn transposed_table[MOE_ISA_COUNT][MOE_FORMAT_COUNT] = FORMAT_TABLE(multiply_by_transposed);
static const gemm_fn activate_table[MOE_ISA_COUNT][MOE_FORMAT_COUNT] = FORMAT_TABLE(activate);
static const gemm_fn backward_table[MOE_ISA_COUNT][MOE_FORMAT_COUNT] = FORMAT_TABLE(activate_backward);
static const gemm_fn store_table[MOE_ISA_COUNT][MOE_FORMAT_COUNT] = FORMAT_TABLE(store);

static size_t sums_bytes(moe_isa isa) {
  return (size_t)(BLOCK_TILES * BLOCK_PANELS * MOE_PANEL * moe_tile_rows(isa)) * sizeof(float);
}

static size_t thread_bytes(moe_isa isa) { return sums_bytes(isa) + TRANSPOSED_BYTES; }

size_t moe_grouped_gemm_scratch_bytes(moe_execution ex) { return (size_t)ex.threads * thread_bytes(ex.isa); }

static void gemm_task(void *context, int64_t task, int thread) {
  const gemm_product *g = context;
  const int64_t unit = g->tiles * g->tile_rows, column_blocks = ceil_div(g->panels, g->width);
  const int64_t e = group_of_task(g->groups, unit, column_blocks, task);
  const int64_t within = task - first_unit(g->groups, e, unit) * column_blocks;
  const int64_t all_rows = group_rows(g->groups, e), tiles = ceil_div(all_rows, g->tile_rows);
  const int64_t row_blocks = ceil_div(tiles, g->tiles);
  if (within >= row_blocks * column_blocks) return;

  /* Blocks of equal numbers of tiles of equal heights, so that none is a remnant. */
  const int64_t height = tile_height(all_rows, g->tile_rows), block_tiles = ceil_div(tiles, row_blocks);
  const int64_t tile = within % row_blocks * block_tiles, row = g->groups.offsets[e] + tile * height;
  const int64_t rows = min64(block_tiles * height, g->groups.offsets[e + 1] - row);
  if (rows <= 0) return;
  const int64_t first_tile = first_unit(g->groups, e, g->tile_rows) + tile;
  const int64_t first_panel = within / row_blocks * g->width;
  char *scratch = g->scratch + (size_t)thread * thread_bytes(g->ex.isa);
  const gemm_block block = {
      .rows = g->rows + (size_t)first_tile * g->row_tile,
      .row_tile = g->row_tile,
      .height = height,
      .count = rows,
      /* A block of transposed panels begins in all panels of its group, at the k of its first column. */
      .panels = g->transposed ? g->weights + (size_t)(e * g->transposed) * g->panel +
                                    panel_bytes(g->format, MOE_K_MULTIPLE) / 2 * (size_t)first_panel
                              : g->weights + (size_t)(e * g->panels + first_panel) * g->panel,
      .panel = g->panel,
      .width = min64(g->width, g->panels - first_panel),
      .chunks = panel_chunks(g->format, g->K),
      .sums = (float *)scratch,
      .transposed = scratch + sums_bytes(g->ex.isa),
      .group = e,
      .tile = first_tile,
      .row = row,
      .first_panel = first_panel};
  g->multiply(g, &block);
  g->epilogue(g, &block);
}

static void run(gemm_product *g) {
  g->tile_rows = moe_tile_rows(g->ex.isa);
  g->row_tile = moe_tile_bytes(g->ex.isa, g->format, g->K);
  g->multiply = (g->transposed ? transposed_table : columns_table)[g->ex.isa][g->format];
  const int share = g->transposed ? TRANSPOSED_SHARE : 1;
  g->tiles = BLOCK_TILES * share;
  const int64_t units = unit_bound(row_count(g->groups), g->groups.E, g->tiles * g->tile_rows);
  /* Narrower tasks where there are few, so that no thread waits long for the last one. */
  g->width = BLOCK_PANELS / share;
  while (g->width > LEAST_PANELS && units * ceil_div(g->panels, g->width) < TASKS_PER_THREAD * g->ex.threads)
    g->width /= 2;
  moe_parallel_for(g->ex.threads, units * ceil_div(g->panels, g->width), gemm_task, g);
}

/* Panels of the first product, up to whole pairs: a recorded tile is over their columns. */
static int64_t up_panels(const moe_networks *networks) {
  return round_up(networks->F, MOE_K_MULTIPLE) / MOE_PANEL * (is_gated(networks->activation) ? 2 : 1);
}

void moe_grouped_gemm_up(moe_execution ex, const moe_networks *networks, moe_groups groups,
                         const void *row_tiles, float *preactivation_tiles, void *hidden_tiles,
                         void *scratch) {
  const int64_t panels = up_panels(networks);
  run(&(gemm_product){.ex = ex,
                      .format = networks->format,
                      .groups = groups,
                      .rows = row_tiles,
                      .weights = networks->up,
                      .K = networks->D,
                      .panels = panels,
                      .panel = panel_bytes(networks->format, networks->D),
                      .epilogue = activate_table[ex.isa][networks->format],
                      .scratch = scratch,
                      .networks = networks,
                      .hidden = hidden_tiles,
                      .hidden_tile = moe_tile_bytes(ex.isa, networks->format, networks->F),
                      .recorded = preactivation_tiles,
                      .recorded_tile = moe_tile_bytes(ex.isa, MOE_FLOAT32, panels * MOE_PANEL)});
}

void moe_grouped_gemm_down(moe_execution ex, const moe_networks *networks, moe_groups groups,
                           const void *hidden_tiles, float *y, void *scratch) {
  run(&(gemm_product){.ex = ex,
                      .format = networks->format,
                      .groups = groups,
                      .rows = hidden_tiles,
                      .weights = networks->down,
                      .K = networks->F,
                      .panels = ceil_div(networks->D, MOE_PANEL),
                      .panel = panel_bytes(networks->format, networks->F),
                      .epilogue = store_table[ex.isa][networks->format],
                      .scratch = scratch,
                      .bias = networks->down_bias,
                      .y = y,
                      .columns = networks->D});
}

void moe_grouped_gemm_down_backward(moe_execution ex, const moe_networks *networks, moe_groups groups,
                                    const void *dy_tiles, const float *preactivation_tiles,
                                    void *preactivation_gradient_tiles, void *scratch) {
  const int64_t columns = up_panels(networks) * MOE_PANEL;
  run(&(gemm_product){.ex = ex,
                      .format = networks->format,
                      .groups = groups,
                      .rows = dy_tiles,
                      .weights = networks->down,
                      .K = networks->D,
                      .panels = round_up(networks->F, MOE_K_MULTIPLE) / MOE_PANEL,
                      .transposed = ceil_div(networks->D, MOE_PANEL),
                      .panel = panel_bytes(networks->format, networks->F),
                      .epilogue = backward_table[ex.isa][networks->format],
                      .scratch = scratch,
                      .networks = networks,
                      .recorded = (float *)preactivation_tiles,
                      .recorded_tile = moe_tile_bytes(ex.isa, MOE_FLOAT32, columns),
                      .gradients = preactivation_gradient_tiles,
                      .gradient_tile = moe_tile_bytes(ex.isa, networks->format, columns)});
}

void moe_grouped_gemm_backward(moe_execution ex, moe_format format, moe_groups groups, moe_tiles gradients,
                               const void *weights, int64_t K, bool add, float *y, void *scratch) {
  const int64_t panels = ceil_div(gradients.columns, MOE_PANEL);
  run(&(gemm_product){.ex = ex,
                      .format = format,
                      .groups = groups,
                      .rows = gradients.data,
                      .weights = weights,
                      .K = panels * MOE_PANEL,
                      .panels = ceil_div(K, MOE_PANEL),
                      .transposed = panels,
                      .panel = panel_bytes(format, K),
                      .epilogue = store_table[ex.isa][format],
                      .scratch = scratch,
                      .add = add,
                      .y = y,
                      .columns = K});
}
