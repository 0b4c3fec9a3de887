/* The gather of rows: row tiles are tasks. */
#include "layout.h"

#define TEMPLATE "../gather.inc.h"
#define PER_FORMAT
#include "isa/foreach.h"

typedef void (*gather_fn)(const float *, int64_t, int64_t, const int32_t *, int64_t, const float *, char *);
static const gather_fn gather_table[MOE_ISA_COUNT][MOE_FORMAT_COUNT] = FORMAT_TABLE(gather_tile);

typedef struct {
  gather_fn gather;
  moe_groups groups;
  const float *x;
  int64_t K, MR;
  const int32_t *row_token;
  const float *row_weight;
  char *tiles;
  size_t tile_bytes;
} gather_args;

static void gather_unit(void *context, int64_t unit, int thread) {
  (void)thread;
  const gather_args *g = context;
  const int64_t e = group_of_task(g->groups, g->MR, 1, unit);
  const int64_t height = tile_height(group_rows(g->groups, e), g->MR);
  const int64_t row = g->groups.offsets[e] + (unit - first_unit(g->groups, e, g->MR)) * height;
  const int64_t rows = min64(height, g->groups.offsets[e + 1] - row);
  if (rows > 0)
    g->gather(g->x, g->K, rows, g->row_token, row, g->row_weight, g->tiles + (size_t)unit * g->tile_bytes);
}

size_t moe_rows_bytes(moe_isa isa, moe_format format, int64_t M, int64_t E, int64_t K) {
  return (size_t)unit_bound(M, E, moe_tile_rows(isa)) * moe_tile_bytes(isa, format, K);
}

void moe_gather_rows(moe_execution ex, moe_format format, moe_groups groups, const float *x, int64_t K,
                     const int32_t *row_token, const float *row_weight, void *tiles) {
  gather_args g = {.gather = gather_table[ex.isa][format],
                   .groups = groups,
                   .x = x,
                   .K = K,
                   .MR = moe_tile_rows(ex.isa),
                   .row_token = row_token,
                   .row_weight = row_weight,
                   .tiles = tiles,
                   .tile_bytes = moe_tile_bytes(ex.isa, format, K)};
  moe_parallel_for(ex.threads, unit_bound(row_count(groups), groups.E, g.MR), gather_unit, &g);
}
