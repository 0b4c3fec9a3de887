/* Sizes of the packed forms that more than one kernel knows. */
#ifndef MOE_LAYOUT_H
#define MOE_LAYOUT_H

#include "formats/formats.h"

static inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
static inline int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }
static inline int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }
static inline size_t align_line(size_t bytes) { return (bytes + LINE - 1) / LINE * LINE; }

/* Whether an expert has a gate projection beside the up projection. */
static inline bool is_gated(moe_activation activation) { return activation >= MOE_SWIGLU; }

/* Chunks of a panel over K, which is padded, and the panel's bytes. */
static inline int64_t panel_chunks(moe_format format, int64_t K) {
  return round_up(K, MOE_K_MULTIPLE) / moe_panel_formats[format].chunk_k;
}
static inline size_t panel_bytes(moe_format format, int64_t K) {
  return (size_t)panel_chunks(format, K) * moe_panel_formats[format].chunk_bytes;
}

/* Rows of a tile, bytes of a tile over K, and whether a tile keeps each pair of values of a row in 32 bits
 * (isa/tile.c). */
int64_t moe_tile_rows(moe_isa isa);
size_t moe_tile_bytes(moe_isa isa, moe_format format, int64_t K);
bool moe_tile_has_pairs(moe_isa isa, moe_format format);

/* Rows of each tile of a group but its last: the group's rows spread evenly over the fewest tiles, because a tile of one
 * or two rows takes as long as one of four. */
static inline int64_t tile_height(int64_t rows, int64_t MR) {
  return rows > 0 ? ceil_div(rows, ceil_div(rows, MR)) : MR;
}

/* Ragged groups are cut into units of `size` rows, and each group begins a new unit. The first unit of group e is
 * offsets[e]/size + min(e, offsets[e]). That leaves room for all groups before e without a table of their sums, so some
 * units have no rows. */
static inline int64_t first_unit(moe_groups groups, int64_t e, int64_t size) {
  return groups.offsets[e] / size + min64(e, groups.offsets[e]);
}

/* The number of units of `size` rows, at most, of M rows in E groups. */
static inline int64_t unit_bound(int64_t M, int64_t E, int64_t size) { return M / size + min64(M, E); }

/* Rows of group e, and of all groups. */
static inline int64_t group_rows(moe_groups groups, int64_t e) {
  return groups.offsets[e + 1] - groups.offsets[e];
}
static inline int64_t row_count(moe_groups groups) { return groups.offsets[groups.E]; }

/* The group of `task` where each unit of `size` rows is `tasks` tasks: the last group whose first task is at most
 * `task`. */
static inline int64_t group_of_task(moe_groups groups, int64_t size, int64_t tasks, int64_t task) {
  int64_t low = 0, high = groups.E - 1;
  while (low < high) {
    const int64_t middle = (low + high + 1) / 2;
    if (first_unit(groups, middle, size) * tasks <= task)
      low = middle;
    else
      high = middle - 1;
  }
  return low;
}

#endif
