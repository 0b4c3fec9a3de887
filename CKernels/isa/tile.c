/* The shape of a row tile, for code that is one for all instruction sets. */
#include "../layout.h"

#define TEMPLATE "../isa/tile.inc.h"
#define PER_FORMAT
#include "foreach.h"

/* ISA_TABLE joins names before macros of isa.h apply: the entries are the constants MR_scalar, MR_avx2, … */
static const int64_t tile_rows_table[MOE_ISA_COUNT] = ISA_TABLE(MR);
static size_t (*const row_bytes_table[MOE_ISA_COUNT][MOE_FORMAT_COUNT])(int64_t) = FORMAT_TABLE(row_bytes);
static bool (*const has_pairs_table[MOE_ISA_COUNT][MOE_FORMAT_COUNT])(void) = FORMAT_TABLE(has_pairs);

int64_t moe_tile_rows(moe_isa isa) { return tile_rows_table[isa]; }

size_t moe_tile_bytes(moe_isa isa, moe_format format, int64_t K) {
  return (size_t)moe_tile_rows(isa) * row_bytes_table[isa][format](round_up(K, MOE_K_MULTIPLE));
}

bool moe_tile_has_pairs(moe_isa isa, moe_format format) { return has_pairs_table[isa][format](); }
