/* AVX2 and FMA: 16 registers of 8 floats.
 * TILE 6×16: 12 sums + 2 weights + 1 broadcast = 15 registers; of weight gradients 4×16, as a line of 16 rows has
 * no sixths. */
enum { W = 8, NV = 2, MR = 6, TILE_NV = 8, SPIN_SUMS = 12, OUTER_ROWS = 4, OUTER_PANELS = 1, PAIR_PARTS = 2 };
#define TILE_SHAPES_avx2(X) X(1, 1) X(2, 1) X(3, 1) X(4, 1) X(5, 1) X(6, 1) X(1, 2) X(2, 2) X(3, 2) X(1, 4)

typedef __m256 vf;
INLINE vf vload(const float *p) { return _mm256_loadu_ps(p); }
INLINE __m256i lanes_avx2(int n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
INLINE vf vload_n(const float *p, int n) { return _mm256_maskload_ps(p, lanes_avx2(n)); }
INLINE void vstore(float *p, vf v) { _mm256_storeu_ps(p, v); }
INLINE void vstore_n(float *p, vf v, int n) { _mm256_maskstore_ps(p, lanes_avx2(n), v); }
INLINE vf vset1(float s) { return _mm256_set1_ps(s); }
INLINE vf vadd(vf a, vf b) { return _mm256_add_ps(a, b); }
INLINE vf vsub(vf a, vf b) { return _mm256_sub_ps(a, b); }
INLINE vf vmul(vf a, vf b) { return _mm256_mul_ps(a, b); }
INLINE vf vdiv(vf a, vf b) { return _mm256_div_ps(a, b); }
INLINE vf vmax(vf a, vf b) { return _mm256_max_ps(a, b); }
INLINE vf vmin(vf a, vf b) { return _mm256_min_ps(a, b); }
INLINE vf vfma(vf a, vf b, vf c) { return _mm256_fmadd_ps(a, b, c); }
INLINE vf vsqrt(vf a) { return _mm256_sqrt_ps(a); }
INLINE vf vround(vf a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
INLINE vf vpow2(vf n) {
  __m256i e = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
  return _mm256_castsi256_ps(_mm256_slli_epi32(e, 23));
}
INLINE vf vselect_lt(vf a, vf b, vf x, vf y) {
  return _mm256_blendv_ps(y, x, _mm256_cmp_ps(a, b, _CMP_LT_OQ));
}
INLINE float vreduce_add(vf a) {
  __m128 s = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  s = _mm_add_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
INLINE float vreduce_max(vf a) {
  __m128 s = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  s = _mm_max_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}
INLINE int vfirst_eq(vf a, float s) {
  unsigned m = (unsigned)_mm256_movemask_ps(_mm256_cmp_ps(a, vset1(s), _CMP_EQ_OQ));
  return m ? __builtin_ctz(m) : W;
}

/* The machine has no bfloat16. */
INLINE vf vpair_part(const char *p, int part) {
  const __m256i pairs = _mm256_loadu_si256((const __m256i *)p);
  return _mm256_castsi256_ps(part == 0 ? _mm256_slli_epi32(pairs, 16)
                                       : _mm256_and_si256(pairs, _mm256_set1_epi32((int)0xffff0000)));
}
INLINE vf vpair_fma(vf a, vf b, vf c) { return vfma(a, b, c); }
INLINE void vstore_bf16(char *to, vf v) {
  __m256i u = _mm256_castps_si256(v);
  __m256i odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1));
  __m256i even = _mm256_add_epi32(u, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
  __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
  __m256i quiet = _mm256_or_si256(u, _mm256_set1_epi32(0x400000));
  __m256i rounded = _mm256_blendv_epi8(even, quiet, nan);
  rounded = _mm256_and_si256(rounded, _mm256_set1_epi32((int)0xffff0000));
  vstore((float *)to, _mm256_castsi256_ps(rounded));
}
INLINE vf vload_bf16(const char *from) { return vload((const float *)from); }
