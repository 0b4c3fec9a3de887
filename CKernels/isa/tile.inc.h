/* The height of a tile, which each instruction set's header chooses beside its registers. */
static int64_t SUFFIX(tile_rows)(void) { return MR; }
