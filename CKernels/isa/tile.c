/* The shape of a tile, for code that is the same for all instruction sets. */
#include "../layout.h"

#define TEMPLATE "tile.inc.h"
#include "foreach.h"

static int64_t (*const tile_rows_table[MOE_ISA_COUNT])(void) = ISA_TABLE(tile_rows);
int64_t moe_tile_rows(moe_isa isa) { return tile_rows_table[isa](); }
