/* Weight gradients of ragged groups: blocks of an expert's weights are tasks. Where rows are bfloat16 in memory, both
 * operands are first laid out in pairs of rows. */
#include "layout.h"

/* Tiles of an operand of outer products: `tile` bytes apart, a panel of 16 columns `panel` bytes apart in each, and a row
 * of a panel one line. */
typedef struct {
  const char *at;
  size_t tile, panel;
} outer_operand;

/* A block of an expert's weight gradients: rows k0 to k1 of some panels. */
typedef struct {
  outer_operand rows, gradients;
  int64_t count, height; /* lines of the operands to add up, and of a tile of theirs */
  int64_t panels, k0, k1;
  float *w;      /* the first of the panels */
  int64_t panel; /* floats from a panel to the next */
} outer_block;

enum {
  /* A block's rows of weights and its panels: with 128 rows its rows, its gradients and its sums take about a quarter of a
   * 1 MiB L2. */
  BLOCK_K = 128,
  BLOCK_PANELS = 12,
  /* Rows that are added at a time, so that their gradients stay in L1 for all k. */
  ROWS_AT_A_TIME = 128
};

#define TEMPLATE "../grouped_gemm_weights.inc.h"
#define PER_FORMAT
#include "isa/foreach.h"

typedef void (*outer_fn)(const outer_block *);
typedef void (*sum_fn)(const char *, size_t, int64_t, int64_t, int64_t, int64_t, int64_t, float *);
static const outer_fn outer_table[MOE_ISA_COUNT][MOE_FORMAT_COUNT] = FORMAT_TABLE(outer);
static const sum_fn sum_table[MOE_ISA_COUNT][MOE_FORMAT_COUNT] = FORMAT_TABLE(sum_rows);

/* ---- pairs of rows -------------------------------------------------------------------------------------- */

/* An operand as pairs of rows: for each group [panel][pair][16][2]. The later row of a pair comes first, because
 * VDPBF16PS adds the second product of a pair before the first: the rows are then added in order, and a batch in parts
 * gives the bits of the whole. The last pair of an odd group ends with zeros, which add nothing. */
typedef struct {
  moe_groups groups;
  int64_t panels, MR;
  const char *tiles;
  size_t tile;
  char *pairs;
} pair_args;

/* Panels of a task, and pairs of a tile of pairs. */
enum { PAIR_PANELS = 16, PAIR_ROWS = 128 };

/* 16 values of a row of a tile, whose lines hold 32 values. */
static const uint16_t *bf16_row(const pair_args *g, int64_t first_tile, int64_t height, int64_t row,
                                int64_t panel) {
  return (const uint16_t *)(g->tiles + (size_t)(first_tile + row / height) * g->tile +
                            (size_t)((panel / 2 * g->MR + row % height) * LINE + panel % 2 * (LINE / 2)));
}

static void pair_task(void *context, int64_t task, int thread) {
  (void)thread;
  const pair_args *g = context;
  const int64_t blocks = ceil_div(g->panels, PAIR_PANELS), e = task / blocks;
  const int64_t rows = group_rows(g->groups, e), pairs = ceil_div(rows, 2);
  const int64_t height = tile_height(rows, g->MR), tile = first_unit(g->groups, e, g->MR);
  const int64_t panel0 = task % blocks * PAIR_PANELS, panel1 = min64(g->panels, panel0 + PAIR_PANELS);
  static const uint16_t none[MOE_PANEL];
  uint32_t *group = (uint32_t *)(g->pairs + (size_t)(first_unit(g->groups, e, 2) * g->panels) * LINE);
  for (int64_t panel = panel0; panel < panel1; panel++)
    for (int64_t i = 0; i < pairs; i++) {
      const uint16_t *a = bf16_row(g, tile, height, 2 * i, panel);
      const uint16_t *b = 2 * i + 1 < rows ? bf16_row(g, tile, height, 2 * i + 1, panel) : none;
      uint32_t *to = group + (panel * pairs + i) * MOE_PANEL;
      for (int n = 0; n < MOE_PANEL; n++) to[n] = (uint32_t)a[n] << 16 | b[n];
    }
}

static size_t pairs_bytes(int64_t M, int64_t E, int64_t panels) {
  return (size_t)(unit_bound(M, E, 2) * panels) * LINE;
}

static void pair_rows(moe_execution ex, moe_format format, moe_groups groups, const void *tiles,
                      int64_t panels, void *pairs) {
  pair_args g = {.groups = groups,
                 .panels = panels,
                 .MR = moe_tile_rows(ex.isa),
                 .tiles = tiles,
                 .tile = moe_tile_bytes(ex.isa, format, panels * MOE_PANEL),
                 .pairs = pairs};
  moe_parallel_for(ex.threads, groups.E * ceil_div(panels, PAIR_PANELS), pair_task, &g);
}

/* ---- outer products ------------------------------------------------------------------------------------- */

typedef struct {
  moe_isa isa;
  moe_format format;
  bool paired;
  moe_groups groups;
  int64_t K, panels, MR;
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
  const int64_t rows = group_rows(g->groups, e);
  if (rows == 0 || (g->included && !g->included[e])) return;
  const int64_t panel = within / k_blocks * BLOCK_PANELS, k = within % k_blocks * BLOCK_K;
  outer_block block = {.panels = min64(BLOCK_PANELS, g->panels - panel),
                       .k0 = k,
                       .k1 = min64(K, k + BLOCK_K),
                       .w = g->weights + (e * g->panels + panel) * K * MOE_PANEL,
                       .panel = K * MOE_PANEL};
  if (g->paired) {
    /* The lines of a panel lie together, so tiles may be of any height: as many as a block of rows has. */
    const int64_t unit = first_unit(g->groups, e, 2);
    block.count = ceil_div(rows, 2);
    block.height = PAIR_ROWS;
    const size_t panel_lines = (size_t)block.count * LINE;
    block.rows =
        (outer_operand){g->rows + (size_t)(unit * (K / MOE_PANEL)) * LINE, PAIR_ROWS * LINE, panel_lines};
    block.gradients =
        (outer_operand){g->gradients + (size_t)(unit * g->panels) * LINE + (size_t)panel * panel_lines,
                        PAIR_ROWS * LINE, panel_lines};
  } else {
    const int64_t tile = first_unit(g->groups, e, g->MR);
    block.count = rows;
    block.height = tile_height(rows, g->MR);
    const size_t panel_lines = (size_t)g->MR * LINE;
    block.rows = (outer_operand){g->rows + (size_t)tile * g->row_tile, g->row_tile, panel_lines};
    block.gradients =
        (outer_operand){g->gradients + (size_t)tile * g->gradient_tile + (size_t)panel * panel_lines,
                        g->gradient_tile, panel_lines};
  }
  outer_table[g->isa][g->format](&block);
}

size_t moe_grouped_gemm_weights_scratch_bytes(moe_isa isa, moe_format format, int64_t M, int64_t E, int64_t K,
                                              int64_t columns) {
  if (!moe_tile_has_pairs(isa, format)) return 0;
  return pairs_bytes(M, E, round_up(K, MOE_K_MULTIPLE) / MOE_PANEL) +
         pairs_bytes(M, E, ceil_div(columns, MOE_PANEL));
}

void moe_grouped_gemm_weights(moe_execution ex, moe_format format, moe_groups groups, const bool *included,
                              moe_tiles rows, moe_tiles gradients, float *weight_gradients, void *scratch) {
  const int64_t row_panels = round_up(rows.columns, MOE_K_MULTIPLE) / MOE_PANEL;
  const int64_t panels = ceil_div(gradients.columns, MOE_PANEL);
  outer_args g = {.isa = ex.isa,
                  .format = format,
                  .paired = moe_tile_has_pairs(ex.isa, format),
                  .groups = groups,
                  .K = rows.columns,
                  .panels = panels,
                  .MR = moe_tile_rows(ex.isa),
                  .included = included,
                  .rows = rows.data,
                  .gradients = gradients.data,
                  .row_tile = moe_tile_bytes(ex.isa, format, rows.columns),
                  .gradient_tile = moe_tile_bytes(ex.isa, format, panels * MOE_PANEL),
                  .weights = weight_gradients};
  if (g.paired) {
    char *paired_rows = scratch,
         *paired_gradients = paired_rows + pairs_bytes(row_count(groups), groups.E, row_panels);
    pair_rows(ex, format, groups, rows.data, row_panels, paired_rows);
    pair_rows(ex, format, groups, gradients.data, g.panels, paired_gradients);
    g.rows = paired_rows;
    g.gradients = paired_gradients;
  }
  const int64_t blocks = ceil_div(row_panels * MOE_PANEL, BLOCK_K) * ceil_div(g.panels, BLOCK_PANELS);
  moe_parallel_for(ex.threads, groups.E * blocks, outer_task, &g);
}

/* ---- sums of rows --------------------------------------------------------------------------------------- */

typedef struct {
  moe_isa isa;
  moe_format format;
  moe_groups groups;
  int64_t panels, parts, MR;
  const bool *included;
  const char *gradients;
  size_t gradient_tile;
  float *const *sums;
} sum_args;

static void sum_task(void *context, int64_t e, int thread) {
  (void)thread;
  const sum_args *g = context;
  const int64_t rows = group_rows(g->groups, e), tile = first_unit(g->groups, e, g->MR);
  if (rows == 0 || (g->included && !g->included[e])) return;
  for (int64_t part = 0; part < g->parts; part++)
    if (g->sums[part])
      sum_table[g->isa][g->format](g->gradients + (size_t)tile * g->gradient_tile, g->gradient_tile, rows,
                                   tile_height(rows, g->MR), part, g->parts, g->panels,
                                   g->sums[part] + e * (g->panels / g->parts) * MOE_PANEL);
}

void moe_group_sums(moe_execution ex, moe_format format, moe_groups groups, const bool *included,
                    moe_tiles gradients, int64_t parts, float *const *sums) {
  const int64_t panels = ceil_div(gradients.columns, MOE_PANEL);
  sum_args g = {.isa = ex.isa,
                .format = format,
                .groups = groups,
                .panels = panels,
                .parts = parts,
                .MR = moe_tile_rows(ex.isa),
                .included = included,
                .gradients = gradients.data,
                .gradient_tile = moe_tile_bytes(ex.isa, format, panels * MOE_PANEL),
                .sums = sums};
  moe_parallel_for(ex.threads, groups.E, sum_task, &g);
}
