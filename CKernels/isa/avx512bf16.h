/* AVX-512 with BF16: the AVX-512 vocabulary, but rows are kept in bfloat16 and one instruction multiplies a
 * pair. VDPBF16PS takes subnormals as zero and rounds each of its two additions to nearest even. */
#define ISA_MULTIPLIES_BF16
#include "avx512.h"
#undef ISA_MULTIPLIES_BF16
#define TILE_SHAPES_avx512bf16(X) TILE_SHAPES_avx512(X)
enum { PAIR_PARTS = 1 };

INLINE vf vpair_part(const char *p, int part) {
  (void)part;
  return _mm512_castsi512_ps(_mm512_loadu_si512(p));
}
INLINE vf vpair_fma(vf a, vf b, vf c) { return _mm512_dpbf16_ps(c, (__m512bh)a, (__m512bh)b); }
INLINE void vstore_bf16(char *to, vf v) {
  __m256bh rounded = _mm512_cvtneps_pbh(v);
  memcpy(to, &rounded, sizeof rounded);
}
INLINE vf vload_bf16(const char *from) {
  const __m256i narrow = _mm256_loadu_si256((const __m256i *)from);
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(narrow), 16));
}
