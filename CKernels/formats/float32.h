/* float32: a panel is [k][16] floats, and a step is one value of k. */
#ifndef MOE_FLOAT32_H
#define MOE_FLOAT32_H

#include "formats.h"
#include <string.h>

static inline uint32_t float32_pack_column(const float *values, int64_t K, int n, char *panel) {
  float *to = (float *)panel + n;
  uint32_t largest = 0;
  for (int64_t k = 0; k < K; k++) {
    uint32_t u;
    memcpy(&u, values + k, 4);
    u &= 0x7fffffff;
    largest = u > largest ? u : largest;
    to[k * MOE_PANEL] = values[k];
  }
  return largest;
}

static inline void float32_narrow(const float *from, int64_t K, char *panel) {
  memcpy(panel, from, (size_t)(K * MOE_PANEL) * sizeof *from);
}

#define FLOAT32_PANEL                                                                                        \
  {.chunk_k = CHUNK_STEPS,                                                                                   \
   .chunk_bytes = CHUNK_BYTES,                                                                               \
   .pack_column = float32_pack_column,                                                                       \
   .narrow = float32_narrow}

#endif

#if defined(ISA)

enum {
  STEP_K = 1,
  PANEL_CHUNK = CHUNK_BYTES,
  ROW_CHUNK = LINE,
  ROWS_HAVE_PAIRS = false,
  PARTS = 1,
  SQUARE = MOE_PANEL * MOE_PANEL * 4
};

INLINE vf multiply_add(vf sum, vf x, vf w) { return vfma(x, w, sum); }

INLINE void multiply_step(int mr, int np, vf (*acc)[TILE_NV], const char *a, const char *b, size_t panel,
                          int step) {
  vf w[TILE_NV];
  UNROLL for (int j = 0; j < np * NV; j++) w[j] =
      vload((const float *)(b + j / NV * panel + step * LINE) + j % NV * W);
  UNROLL for (int r = 0; r < mr; r++) {
    vf x = vset1(((const float *)a)[r * LINE_FLOATS + step]);
    UNROLL for (int j = 0; j < np * NV; j++) acc[r][j] = vfma(x, w[j], acc[r][j]);
  }
}

/* Row tiles are [K'/16][MR][16] floats; k is a multiple of 16. */
INLINE void row_store(char *tile, int64_t k, int64_t row, const vf *v) {
  for (int j = 0; j < NV; j++)
    vstore((float *)tile + (k / LINE_FLOATS * MR + row) * LINE_FLOATS + j * W, v[j]);
}
INLINE void row_load(const char *tile, int64_t k, int64_t row, vf *v) {
  for (int j = 0; j < NV; j++)
    v[j] = vload((const float *)tile + (k / LINE_FLOATS * MR + row) * LINE_FLOATS + j * W);
}

#include "octets.inc.h"

/* [16 k][16 n] to [16 n][16 k]. */
INLINE void transpose_square(const char *from, char *to) {
  KERNEL(octet) even[8], odd[8];
  UNROLL for (int i = 0; i < 8; i++) {
    const KERNEL(words) a = *(const KERNEL(words) *)(from + 2 * i * LINE);
    const KERNEL(words) b = *(const KERNEL(words) *)(from + (2 * i + 1) * LINE);
    even[i] = (KERNEL(octet))__builtin_shufflevector(a, b, 0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28,
                                                     14, 30);
    odd[i] = (KERNEL(octet))__builtin_shufflevector(a, b, 1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29,
                                                    15, 31);
  }
  KERNEL(transpose_octets)(even);
  KERNEL(transpose_octets)(odd);
  UNROLL for (int i = 0; i < 8; i++) {
    *(KERNEL(octet) *)(to + 2 * i * LINE) = even[i];
    *(KERNEL(octet) *)(to + (2 * i + 1) * LINE) = odd[i];
  }
}

#endif
