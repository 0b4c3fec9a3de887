/* Weight gradients of ragged groups: blocks of an expert's weights are tasks. Where rows are bfloat16 in memory, both
 * operands are first laid out in pairs of rows. */
#include "layout.h"

#define TEMPLATE "../grouped_gemm_weights.inc.h"
#include "isa/foreach.h"

/* A task's weights: with 128 rows its rows, its gradients and its sums take about a quarter of a 1 MiB L2. */
enum { BLOCK_K = 128, BLOCK_PANELS = 12 };

typedef void (*outer_fn)(bool, const char *, size_t, size_t, const char *, size_t, size_t, int64_t, int64_t,
                         int64_t, int64_t, int64_t, float *, int64_t);
typedef void (*sum_fn)(bool, const char *, size_t, int64_t, int64_t, int64_t, int64_t, int64_t, float *);
static const outer_fn outer_table[MOE_ISA_COUNT] = ISA_TABLE(outer_block);
static const sum_fn sum_table[MOE_ISA_COUNT] = ISA_TABLE(sum_rows);

/* ---- pairs of rows -------------------------------------------------------------------------------------- */

/* An operand as pairs of rows: for each group [panel][pair][16][2]. The later row of a pair comes first, because
 * VDPBF16PS adds the second product of a pair before the first: the rows are then added in order, and a batch in parts
 * gives the bits of the whole. The last pair of an odd group ends with zeros, which add nothing. */
typedef struct {
  int64_t E, panels, MR;
  const int64_t *offsets;
  const char *tiles;
  size_t tile;
  char *pairs;
} pair_args;

/* Panels of a task, and lines of a tile of pairs. */
enum { PAIR_PANELS = 16, PAIR_ROWS = 128 };

static const uint16_t *bf16_row(const pair_args *g, int64_t first_tile, int64_t height, int64_t row,
                                int64_t panel) {
  return (const uint16_t *)(g->tiles + (size_t)(first_tile + row / height) * g->tile +
                            (size_t)((panel / 2 * g->MR + row % height) * 64 + panel % 2 * 32));
}

static void pair_task(void *context, int64_t task, int thread) {
  (void)thread;
  const pair_args *g = context;
  const int64_t blocks = ceil_div(g->panels, PAIR_PANELS), e = task / blocks;
  const int64_t rows = g->offsets[e + 1] - g->offsets[e], pairs = ceil_div(rows, 2);
  const int64_t height = tile_height(rows, g->MR), tile = first_unit(g->offsets, e, g->MR);
  const int64_t panel0 = task % blocks * PAIR_PANELS, panel1 = min64(g->panels, panel0 + PAIR_PANELS);
  static const uint16_t none[MOE_PANEL];
  uint32_t *group = (uint32_t *)(g->pairs + (size_t)(first_unit(g->offsets, e, 2) * g->panels) * 64);
  for (int64_t panel = panel0; panel < panel1; panel++)
    for (int64_t i = 0; i < pairs; i++) {
      const uint16_t *a = bf16_row(g, tile, height, 2 * i, panel);
      const uint16_t *b = 2 * i + 1 < rows ? bf16_row(g, tile, height, 2 * i + 1, panel) : none;
      uint32_t *to = group + (panel * pairs + i) * MOE_PANEL;
      for (int n = 0; n < MOE_PANEL; n++) to[n] = (uint32_t)a[n] << 16 | b[n];
    }
}

static size_t pairs_bytes(int64_t M, int64_t E, int64_t panels) {
  return (size_t)(unit_bound(M, E, 2) * panels) * 64;
}

static void pair_rows(moe_execution ex, const void *tiles, int64_t panels, int64_t E, const int64_t *offsets,
                      void *pairs) {
  pair_args g = {.E = E,
                 .panels = panels,
                 .MR = moe_tile_rows(ex.isa),
                 .offsets = offsets,
                 .tiles = tiles,
                 .tile = tile_bytes(ex.isa, MOE_BF16, panels * MOE_PANEL),
                 .pairs = pairs};
  moe_parallel_for(ex.threads, E * ceil_div(panels, PAIR_PANELS), pair_task, &g);
}

/* ---- outer products ------------------------------------------------------------------------------------- */

typedef struct {
  moe_isa isa;
  moe_dtype dtype;
  bool paired;
  int64_t E, K, panels, MR;
  const int64_t *offsets;
  const bool *included;
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
  const int64_t rows = g->offsets[e + 1] - g->offsets[e];
  if (rows == 0 || (g->included && !g->included[e])) return;
  const int64_t panel = within / k_blocks * BLOCK_PANELS, k = within % k_blocks * BLOCK_K;
  const int64_t panels = min64(BLOCK_PANELS, g->panels - panel), k_end = min64(K, k + BLOCK_K);
  float *weights = g->weights + (e * g->panels + panel) * K * MOE_PANEL;
  if (g->paired) {
    /* The lines of a panel lie together, so tiles may be of any height: as many as a block of rows has. */
    const int64_t pairs = ceil_div(rows, 2), unit = first_unit(g->offsets, e, 2);
    const size_t line = (size_t)pairs * 64;
    outer_table[g->isa](true, g->rows + (size_t)(unit * (K / MOE_PANEL)) * 64, PAIR_ROWS * 64, line,
                        g->gradients + (size_t)(unit * g->panels) * 64 + (size_t)panel * line, PAIR_ROWS * 64,
                        line, pairs, PAIR_ROWS, panels, k, k_end, weights, K * MOE_PANEL);
  } else {
    const int64_t tile = first_unit(g->offsets, e, g->MR);
    const size_t line = (size_t)g->MR * 64;
    outer_table[g->isa](false, g->rows + (size_t)tile * g->row_tile, g->row_tile, line,
                        g->gradients + (size_t)tile * g->gradient_tile + (size_t)panel * line,
                        g->gradient_tile, line, rows, tile_height(rows, g->MR), panels, k, k_end, weights,
                        K * MOE_PANEL);
  }
}

/* Only rows that are bfloat16 in memory are multiplied in pairs; elsewhere they are rounded floats. */
static bool are_paired(moe_isa isa, moe_dtype dtype) { return dtype == MOE_BF16 && isa == MOE_AVX512BF16; }

size_t moe_grouped_gemm_weights_scratch_bytes(moe_isa isa, moe_dtype dtype, int64_t M, int64_t E, int64_t K,
                                              int64_t panels) {
  if (!are_paired(isa, dtype)) return 0;
  return pairs_bytes(M, E, round_up(K, MOE_K_MULTIPLE) / MOE_PANEL) + pairs_bytes(M, E, panels);
}

void moe_grouped_gemm_weights(moe_execution ex, moe_dtype dtype, const void *row_tiles, int64_t K,
                              const void *gradient_tiles, int64_t panels, int64_t E, const int64_t *offsets,
                              const bool *included, float *weight_gradients, void *scratch) {
  outer_args g = {.isa = ex.isa,
                  .dtype = dtype,
                  .paired = are_paired(ex.isa, dtype),
                  .E = E,
                  .K = K,
                  .panels = panels,
                  .MR = moe_tile_rows(ex.isa),
                  .offsets = offsets,
                  .included = included,
                  .rows = row_tiles,
                  .gradients = gradient_tiles,
                  .row_tile = tile_bytes(ex.isa, dtype, K),
                  .gradient_tile = tile_bytes(ex.isa, dtype, panels * MOE_PANEL),
                  .weights = weight_gradients};
  const int64_t row_panels = round_up(K, MOE_K_MULTIPLE) / MOE_PANEL;
  if (g.paired) {
    char *rows = scratch, *gradients = rows + pairs_bytes(offsets[E], E, row_panels);
    pair_rows(ex, row_tiles, row_panels, E, offsets, rows);
    pair_rows(ex, gradient_tiles, panels, E, offsets, gradients);
    g.rows = rows;
    g.gradients = gradients;
  }
  const int64_t blocks = ceil_div(row_panels * MOE_PANEL, BLOCK_K) * ceil_div(panels, BLOCK_PANELS);
  moe_parallel_for(ex.threads, E * blocks, outer_task, &g);
}

typedef struct {
  moe_isa isa;
  bool bf16;
  int64_t panels, parts, MR;
  const int64_t *offsets;
  const bool *included;
  const char *gradients;
  size_t gradient_tile;
  float *const *sums;
} sum_args;

static void sum_task(void *context, int64_t e, int thread) {
  (void)thread;
  const sum_args *g = context;
  const int64_t rows = g->offsets[e + 1] - g->offsets[e], tile = first_unit(g->offsets, e, g->MR);
  if (rows == 0 || (g->included && !g->included[e])) return;
  for (int64_t part = 0; part < g->parts; part++)
    if (g->sums[part])
      sum_table[g->isa](g->bf16, g->gradients + (size_t)tile * g->gradient_tile, g->gradient_tile, rows,
                        tile_height(rows, g->MR), part, g->parts, g->panels,
                        g->sums[part] + e * (g->panels / g->parts) * MOE_PANEL);
}

void moe_group_sums(moe_execution ex, moe_dtype dtype, const void *gradient_tiles, int64_t panels,
                    int64_t parts, int64_t E, const int64_t *offsets, const bool *included,
                    float *const *sums) {
  sum_args g = {.isa = ex.isa,
                .bf16 = dtype == MOE_BF16,
                .panels = panels,
                .parts = parts,
                .MR = moe_tile_rows(ex.isa),
                .offsets = offsets,
                .included = included,
                .gradients = gradient_tiles,
                .gradient_tile = tile_bytes(ex.isa, dtype, panels * MOE_PANEL),
                .sums = sums};
  moe_parallel_for(ex.threads, E, sum_task, &g);
}
