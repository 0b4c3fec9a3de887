/* Sizes of the packed forms that more than one kernel knows. */
#ifndef MOE_LAYOUT_H
#define MOE_LAYOUT_H

#include "include/CKernels.h"

static inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
static inline int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }
static inline int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }
static inline size_t align64(size_t bytes) { return (bytes + 63) / 64 * 64; }

/* Whether an expert has a gate projection beside the up projection. */
static inline bool is_gated(moe_activation activation) { return activation >= MOE_SWIGLU; }

/* Bytes of one panel over K: its K is padded, and a step of 64 bytes is one k in fp32, two in bfloat16. */
static inline size_t panel_bytes(moe_dtype dtype, int64_t K) {
  return (size_t)round_up(K, MOE_K_MULTIPLE) * MOE_PANEL * (dtype == MOE_F32 ? 4 : 2);
}

/* Chunks of 16 steps in a panel over K. */
static inline int64_t panel_chunks(moe_dtype dtype, int64_t K) {
  return round_up(K, MOE_K_MULTIPLE) / (dtype == MOE_F32 ? 16 : 32);
}

/* Rows of a tile, and bytes of a tile over K. Only AVX512-BF16 keeps rows in bfloat16. */
int64_t moe_tile_rows(moe_isa isa);
static inline size_t tile_bytes(moe_isa isa, moe_dtype dtype, int64_t K) {
  const bool narrow = dtype == MOE_BF16 && isa == MOE_AVX512BF16;
  return (size_t)(moe_tile_rows(isa) * round_up(K, MOE_K_MULTIPLE)) * (narrow ? 2 : 4);
}

/* Rows of each tile of a group but its last: the group's rows spread evenly over the fewest tiles, because a
 * tile of one or two rows takes as long as one of four. */
static inline int64_t tile_height(int64_t rows, int64_t MR) {
  return rows > 0 ? ceil_div(rows, ceil_div(rows, MR)) : MR;
}

/* Ragged groups are cut into units of `size` rows, each group beginning a unit of its own. The first unit of
 * group e is offsets[e]/size + min(e, offsets[e]), which leaves room for all groups before it without a table
 * of their sums; some unit numbers belong to no rows. */
static inline int64_t first_unit(const int64_t *offsets, int64_t e, int64_t size) {
  return offsets[e] / size + min64(e, offsets[e]);
}
static inline int64_t unit_bound(int64_t M, int64_t E, int64_t size) { return M / size + min64(M, E); }

/* The last group whose first unit, times `tasks` a unit, is at most `task`. */
static inline int64_t group_of_task(const int64_t *offsets, int64_t E, int64_t size, int64_t tasks,
                                    int64_t task) {
  int64_t low = 0, high = E - 1;
  while (low < high) {
    const int64_t middle = (low + high + 1) / 2;
    if (first_unit(offsets, middle, size) * tasks <= task)
      low = middle;
    else
      high = middle - 1;
  }
  return low;
}

#endif
