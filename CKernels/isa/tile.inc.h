/* The shape of a row tile: the header of each instruction set chooses its height beside its registers, and the header of
 * each number format the bytes of a row. */
static size_t KERNEL(row_bytes)(int64_t K) { return (size_t)(K / (STEP_K * CHUNK_STEPS)) * ROW_CHUNK; }
static bool KERNEL(has_pairs)(void) { return ROWS_HAVE_PAIRS; }
