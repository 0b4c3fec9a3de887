/* AVX-512 (F, BW, DQ, VL): 32 registers of 16 floats.
 * TILE 12×32: 24 sums + 2 weights + 1 broadcast = 27 registers; 14 loads for 24 multiply-adds, so two loads a
 * cycle feed two multiply-adds. Few rows take more panels, so that 8 or more sums hide the latency. Of weight
 * gradients 8×48: 24 sums + 3 + 1. */
enum { W = 16, NV = 1, MR = 12, TILE_NV = 8, SPIN_SUMS = 16, OUTER_ROWS = 8, OUTER_PANELS = 3 };
/* clang-format off */
#define TILE_SHAPES_avx512(X)                                                                                \
  X(1, 1) X(2, 1) X(3, 1) X(4, 1) X(5, 1) X(6, 1) X(7, 1) X(8, 1) X(9, 1) X(10, 1) X(11, 1) X(12, 1)         \
  X(1, 2) X(2, 2) X(3, 2) X(4, 2) X(5, 2) X(6, 2) X(7, 2) X(8, 2) X(9, 2) X(10, 2) X(11, 2) X(12, 2)         \
  X(1, 4) X(2, 4) X(3, 4) X(4, 4) X(5, 4) X(6, 4) X(1, 8) X(2, 8) X(3, 8)
/* clang-format on */

typedef __m512 vf;
INLINE vf vload(const float *p) { return _mm512_loadu_ps(p); }
INLINE __mmask16 SUFFIX(lanes)(int n) { return (__mmask16)(n >= 16 ? 0xffff : (1u << (n > 0 ? n : 0)) - 1); }
INLINE vf vload_n(const float *p, int n) { return _mm512_maskz_loadu_ps(SUFFIX(lanes)(n), p); }
INLINE void vstore(float *p, vf v) { _mm512_storeu_ps(p, v); }
INLINE void vstore_n(float *p, vf v, int n) { _mm512_mask_storeu_ps(p, SUFFIX(lanes)(n), v); }
INLINE vf vset1(float s) { return _mm512_set1_ps(s); }
INLINE vf vadd(vf a, vf b) { return _mm512_add_ps(a, b); }
INLINE vf vsub(vf a, vf b) { return _mm512_sub_ps(a, b); }
INLINE vf vmul(vf a, vf b) { return _mm512_mul_ps(a, b); }
INLINE vf vdiv(vf a, vf b) { return _mm512_div_ps(a, b); }
INLINE vf vmax(vf a, vf b) { return _mm512_max_ps(a, b); }
INLINE vf vmin(vf a, vf b) { return _mm512_min_ps(a, b); }
INLINE vf vfma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }
INLINE vf vsqrt(vf a) { return _mm512_sqrt_ps(a); }
INLINE vf vround(vf a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
INLINE vf vpow2(vf n) {
  __m512i e = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
  return _mm512_castsi512_ps(_mm512_slli_epi32(e, 23));
}
INLINE vf vselect_lt(vf a, vf b, vf x, vf y) {
  return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), y, x);
}
INLINE float vreduce_add(vf a) { return _mm512_reduce_add_ps(a); }
INLINE float vreduce_max(vf a) { return _mm512_reduce_max_ps(a); }
INLINE int vfirst_eq(vf a, float s) {
  unsigned m = _mm512_cmp_ps_mask(a, vset1(s), _CMP_EQ_OQ);
  return m ? __builtin_ctz(m) : W;
}

#if !defined(ISA_MULTIPLIES_BF16)
/* The machine has no bfloat16. */
enum { PAIR_PARTS = 2 };
INLINE vf vpair_part(const char *p, int part) {
  const __m512i pairs = _mm512_loadu_si512(p);
  return _mm512_castsi512_ps(part == 0 ? _mm512_slli_epi32(pairs, 16)
                                       : _mm512_and_si512(pairs, _mm512_set1_epi32((int)0xffff0000)));
}
INLINE vf vpair_fma(vf a, vf b, vf c) { return vfma(a, b, c); }
INLINE void vstore_bf16(char *to, vf v) {
  __m512i u = _mm512_castps_si512(v);
  __m512i odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1));
  __m512i even = _mm512_add_epi32(u, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
  __m512i quiet = _mm512_or_si512(u, _mm512_set1_epi32(0x400000));
  __m512i rounded = _mm512_mask_blend_epi32(_mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q), even, quiet);
  rounded = _mm512_and_si512(rounded, _mm512_set1_epi32((int)0xffff0000));
  vstore((float *)to, _mm512_castsi512_ps(rounded));
}
INLINE vf vload_bf16(const char *from) { return vload((const float *)from); }
#endif
