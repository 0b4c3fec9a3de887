/* AVX-512 with BF16: the AVX-512 vocabulary, but rows are kept in bfloat16 and one instruction multiplies a
 * pair. VDPBF16PS takes subnormals as zero and rounds each of its two additions to nearest even. */
#define ISA_MULTIPLIES_BF16
#include "avx512.h"
#undef ISA_MULTIPLIES_BF16
#define TILE_SHAPES_avx512bf16(X) TILE_SHAPES_avx512(X)
enum { BF16_CHUNK_BYTES = 64 };

INLINE vf vpair(vf acc, vf x, vf w) { return _mm512_dpbf16_ps(acc, (__m512bh)x, (__m512bh)w); }
INLINE void row16_store_bf16(char *tile, int64_t k, int row, const vf *v) {
  __m256bh rounded = _mm512_cvtneps_pbh(*v);
  memcpy(tile + (k / 32 * MR + row) * 64 + k % 32 * 2, &rounded, 32);
}
INLINE void row16_load_bf16(const char *tile, int64_t k, int row, vf *v) {
  const __m256i narrow = _mm256_loadu_si256((const __m256i *)(tile + (k / 32 * MR + row) * 64 + k % 32 * 2));
  *v = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(narrow), 16));
}
INLINE void step_bf16(int mr, int np, vf (*acc)[TILE_NV], const char *a, const char *b, size_t panel,
                      int step) {
  const int32_t *row = (const int32_t *)a + step;
  __m512i w[TILE_NV];
  UNROLL for (int j = 0; j < np; j++) w[j] = _mm512_loadu_si512(b + j * panel + step * 64);
  UNROLL for (int r = 0; r < mr; r++) {
    __m512i x = _mm512_set1_epi32(row[r * 16]);
    UNROLL for (int j = 0; j < np; j++) acc[r][j] = _mm512_dpbf16_ps(acc[r][j], (__m512bh)x, (__m512bh)w[j]);
  }
}
