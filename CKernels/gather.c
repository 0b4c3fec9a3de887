/* The gather of rows: row tiles are tasks. */
#include "layout.h"

#define TEMPLATE "../gather.inc.h"
#include "isa/foreach.h"

typedef void (*gather_fn)(bool, const float *, int64_t, int64_t, const int32_t *, int64_t, const float *,
                          char *);
static const gather_fn gather_table[MOE_ISA_COUNT] = ISA_TABLE(gather_tile);

typedef struct {
  gather_fn gather;
  bool bf16;
  const float *x;
  int64_t K, E, MR;
  const int64_t *offsets;
  const int32_t *row_token;
  const float *row_weight;
  char *tiles;
  size_t tile_bytes;
} gather_args;

static void gather_unit(void *context, int64_t unit, int thread) {
  (void)thread;
  const gather_args *g = context;
  const int64_t e = group_of_task(g->offsets, g->E, g->MR, 1, unit);
  const int64_t height = tile_height(g->offsets[e + 1] - g->offsets[e], g->MR);
  const int64_t row = g->offsets[e] + (unit - first_unit(g->offsets, e, g->MR)) * height;
  const int64_t rows = min64(height, g->offsets[e + 1] - row);
  if (rows > 0)
    g->gather(g->bf16, g->x, g->K, rows, g->row_token, row, g->row_weight,
              g->tiles + (size_t)unit * g->tile_bytes);
}

size_t moe_rows_bytes(moe_isa isa, moe_dtype dtype, int64_t M, int64_t E, int64_t K) {
  return (size_t)unit_bound(M, E, moe_tile_rows(isa)) * tile_bytes(isa, dtype, K);
}

void moe_gather_rows(moe_execution ex, moe_dtype dtype, const float *x, int64_t K, int64_t E,
                     const int64_t *offsets, const int32_t *row_token, const float *row_weight, void *tiles) {
  gather_args g = {gather_table[ex.isa],        dtype == MOE_BF16, x,         K,          E,
                   moe_tile_rows(ex.isa),       offsets,           row_token, row_weight, tiles,
                   tile_bytes(ex.isa, dtype, K)};
  moe_parallel_for(ex.threads, unit_bound(offsets[E], E, g.MR), gather_unit, &g);
}
