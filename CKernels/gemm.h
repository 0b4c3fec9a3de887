/* The arguments of a tile and of a block of a product, for the grouped products and the router. */
#ifndef MOE_GEMM_H
#define MOE_GEMM_H

#include "layout.h"

/* Lines to bring into L2 while something else is computed: `lines` of them with every chunk, from `at` on. */
typedef struct {
  const char *at;
  int64_t lines;
} fetch;

/* Runs of `lines` lines, `stride` bytes apart, of which the next block of panels will be made. */
typedef struct {
  const char *at;
  size_t stride;
  int64_t runs, lines;
} fetch_runs;

/* One call of a tile: some rows times some panels over some chunks of k. */
typedef struct {
  const char *rows, *panels; /* both at the first chunk */
  size_t panel;              /* bytes from a panel to the next */
  float *sums;               /* [panel][MR][16] */
  int64_t chunks;
  bool resume; /* whether the sums continue those in `sums`; otherwise they begin with 0 */
  fetch weights, ahead;
} tile_call;

/* A block of a product: some rows of one group times some panels of the group's weights. */
typedef struct {
  const char *rows;      /* the first row tile */
  size_t row_tile;       /* bytes from a row tile to the next */
  int64_t height, count; /* rows of each tile but the last, and of the block */
  const char *panels;    /* the first panel */
  size_t panel;          /* bytes from a panel to the next */
  int64_t width;         /* panels */
  int64_t chunks;        /* of k */
  float *sums;           /* [tile][width][MR][16] */
  char *transposed;      /* CHUNK_STEPS chunks of transposed panels, where the product transposes them */
  int64_t group;         /* the place of the block: its group, … */
  int64_t tile, row;     /* … its first row tile and row among all groups' … */
  int64_t first_panel;   /* … and its first panel among its group's */
} gemm_block;

typedef struct gemm_product gemm_product;

/* Computes the sums of a block, or is its epilogue: stores them where they belong. */
typedef void (*gemm_fn)(const gemm_product *product, const gemm_block *block);

/* A grouped product as its entry point asks for it. */
struct gemm_product {
  moe_execution ex;
  moe_format format;
  moe_groups groups;
  const char *rows, *weights;
  int64_t K, panels;  /* the dimension that is summed over, and the panels of one group */
  int64_t transposed; /* panels of a group's weights where these are transposed, else 0 */
  size_t panel;       /* bytes of one panel of the weights */
  gemm_fn multiply, epilogue;
  char *scratch; /* [thread]: the sums of a block and its transposed panels */
  /* Filled in by the partition. */
  int64_t tile_rows, tiles, width; /* row tiles and panels of a task */
  size_t row_tile;
  /* For the epilogues of the first product, forward and backward. */
  const moe_networks *networks;
  char *hidden; /* h as row tiles */
  size_t hidden_tile;
  float *recorded; /* gate and up before the activation, as float32 row tiles, or NULL */
  size_t recorded_tile;
  char *gradients; /* dL/d(gate, up) as row tiles */
  size_t gradient_tile;
  /* For the epilogue of a product with row-major rows: y [M, columns]. */
  const float *bias;
  bool add;
  float *y;
  int64_t columns;
};

#endif
