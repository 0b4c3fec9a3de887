/* bfloat16: a panel is [k/2][16][2], and a step is a pair of values of k, because one instruction multiplies a pair
 * where the machine has such an instruction. Elsewhere a step is widened to two float vectors, once for all rows of a
 * tile. Rows are rounded to bfloat16 when they enter a tile. */
#ifndef MOE_BFLOAT16_H
#define MOE_BFLOAT16_H

#include "formats.h"
#include <string.h>

/* Rounds to nearest, ties to even; a NaN stays a NaN. */
static inline uint16_t bfloat16_from_float(float v) {
  uint32_t u;
  memcpy(&u, &v, 4);
  if (v != v) return (uint16_t)(u >> 16 | 0x40);
  return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

static inline uint32_t bfloat16_pack_column(const float *values, int64_t K, int n, char *panel) {
  uint16_t *to = (uint16_t *)panel + n * 2;
  uint32_t largest = 0;
  for (int64_t k = 0; k < K; k++) {
    const uint16_t v = bfloat16_from_float(values[k]);
    const uint32_t u = (uint32_t)(v & 0x7fff) << 16;
    largest = u > largest ? u : largest;
    to[k / 2 * MOE_PANEL * 2 + k % 2] = v;
  }
  return largest;
}

static inline void bfloat16_narrow(const float *from, int64_t K, char *panel) {
  uint16_t *to = (uint16_t *)panel;
  for (int64_t i = 0; i < K * MOE_PANEL; i += 2 * MOE_PANEL)
    for (int n = 0; n < MOE_PANEL; n++) {
      to[i + 2 * n] = bfloat16_from_float(from[i + n]);
      to[i + 2 * n + 1] = bfloat16_from_float(from[i + MOE_PANEL + n]);
    }
}

#define BFLOAT16_PANEL                                                                                       \
  {.chunk_k = 2 * CHUNK_STEPS,                                                                               \
   .chunk_bytes = CHUNK_BYTES,                                                                               \
   .pack_column = bfloat16_pack_column,                                                                      \
   .narrow = bfloat16_narrow}

#endif

#if defined(ISA)

enum {
  STEP_K = 2,
  PANEL_CHUNK = CHUNK_BYTES,
  ROW_CHUNK = PAIR_PARTS * LINE,
  ROWS_HAVE_PAIRS = PAIR_PARTS == 1,
  PARTS = PAIR_PARTS,
  SQUARE = MOE_PANEL * MOE_PANEL * 2
};

INLINE vf multiply_add(vf sum, vf x, vf w) { return vpair_fma(x, w, sum); }

/* A row's part of a chunk is PAIR_PARTS lines, MR lines apart. A line holds the parts of LINE_STEPS
 * steps. */
INLINE void multiply_step(int mr, int np, vf (*acc)[TILE_NV], const char *a, const char *b, size_t panel,
                          int step) {
  enum { LINE_STEPS = LINE_FLOATS / PAIR_PARTS };
  const float *row = (const float *)a + step / LINE_STEPS * MR * LINE_FLOATS + step % LINE_STEPS * PAIR_PARTS;
  vf w[PAIR_PARTS][TILE_NV];
  UNROLL for (int j = 0; j < np * NV; j++) UNROLL for (int i = 0; i < PAIR_PARTS; i++) w[i][j] =
      vpair_part(b + j / NV * panel + step * LINE + j % NV * W * 4, i);
  UNROLL for (int r = 0; r < mr; r++) UNROLL for (int i = 0; i < PAIR_PARTS; i++) {
    vf x = vset1(row[r * LINE_FLOATS + i]);
    UNROLL for (int j = 0; j < np * NV; j++) acc[r][j] = vpair_fma(x, w[i][j], acc[r][j]);
  }
}

/* Row tiles are [k / LINE_K][MR][LINE_K]: lines of 16 rounded floats, or of 32 bfloat16; k is a multiple of 16. */
#define LINE_K (32 / PAIR_PARTS)
INLINE void row_store(char *tile, int64_t k, int64_t row, const vf *v) {
  char *to = tile + (k / LINE_K * MR + row) * LINE + k % LINE_K * (LINE / LINE_K);
  for (int j = 0; j < NV; j++) vstore_bf16(to + j * W * (LINE / LINE_K), v[j]);
}
INLINE void row_load(const char *tile, int64_t k, int64_t row, vf *v) {
  const char *from = tile + (k / LINE_K * MR + row) * LINE + k % LINE_K * (LINE / LINE_K);
  for (int j = 0; j < NV; j++) v[j] = vload_bf16(from + j * W * (LINE / LINE_K));
}
#undef LINE_K

#include "octets.inc.h"

/* [8 pairs of k][16 n][2] to [8 pairs of n][16 k][2]. */
INLINE void transpose_square(const char *from, char *to) {
  KERNEL(octet) v[8];
  UNROLL for (int i = 0; i < 8; i++) {
    const KERNEL(halves) a = *(const KERNEL(halves) *)(from + i * LINE);
    v[i] =
        (KERNEL(octet))__builtin_shufflevector(a, a, 0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11, 12, 14, 13, 15, 16,
                                               18, 17, 19, 20, 22, 21, 23, 24, 26, 25, 27, 28, 30, 29, 31);
  }
  KERNEL(transpose_octets)(v);
  UNROLL for (int i = 0; i < 8; i++) * (KERNEL(octet) *)(to + i * LINE) = v[i];
}

#endif
