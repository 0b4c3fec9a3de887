/* Any CPU: a vector is one float, and the compiler may join such vectors to wider ones.
 * TILE 4×16: 64 sums and the compiler's own choice of registers; measured no faster with more rows. */
enum {
  W = 1,
  NV = 16,
  MR = 4,
  TILE_NV = 16,
  SPIN_SUMS = 48,
  OUTER_ROWS = 4,
  OUTER_PANELS = 1,
  PAIR_PARTS = 2
};
#define TILE_SHAPES_scalar(X) X(1, 1) X(2, 1) X(3, 1) X(4, 1)

typedef float vf;
INLINE vf vload(const float *p) { return *p; }
INLINE vf vload_n(const float *p, int n) { return n > 0 ? *p : 0; }
INLINE void vstore(float *p, vf v) { *p = v; }
INLINE void vstore_n(float *p, vf v, int n) {
  if (n > 0) *p = v;
}
INLINE vf vset1(float s) { return s; }
INLINE vf vadd(vf a, vf b) { return a + b; }
INLINE vf vsub(vf a, vf b) { return a - b; }
INLINE vf vmul(vf a, vf b) { return a * b; }
INLINE vf vdiv(vf a, vf b) { return a / b; }
INLINE vf vmax(vf a, vf b) { return a > b ? a : b; }
INLINE vf vmin(vf a, vf b) { return a < b ? a : b; }
#if defined(__FMA__) || defined(__aarch64__)
INLINE vf vfma(vf a, vf b, vf c) { return __builtin_fmaf(a, b, c); }
#else
INLINE vf vfma(vf a, vf b, vf c) { return a * b + c; }
#endif
INLINE vf vsqrt(vf a) { return __builtin_sqrtf(a); }
INLINE vf vround(vf a) { return (a + 0x1.8p23f) - 0x1.8p23f; }
/* n + 127 lies in the low bits of n + 1.5·2^23 + 127: a conversion to int would be undefined for NaN. */
INLINE vf vpow2(vf n) {
  union {
    float f;
    uint32_t i;
  } bits = {.f = n + (0x1.8p23f + 127)};
  bits.i <<= 23;
  return bits.f;
}
INLINE vf vselect_lt(vf a, vf b, vf x, vf y) { return a < b ? x : y; }
INLINE float vreduce_add(vf a) { return a; }
INLINE float vreduce_max(vf a) { return a; }
INLINE int vfirst_eq(vf a, float s) { return a == s ? 0 : 1; }

/* The machine has no bfloat16. */
INLINE vf vpair_part(const char *p, int part) {
  uint32_t u;
  float v;
  memcpy(&u, p, 4);
  u = part == 0 ? u << 16 : u & 0xffff0000;
  memcpy(&v, &u, 4);
  return v;
}
INLINE vf vpair_fma(vf a, vf b, vf c) { return vfma(a, b, c); }
INLINE void vstore_bf16(char *to, vf v) {
  uint32_t u;
  memcpy(&u, &v, 4);
  u = v != v ? u | 0x400000 : u + 0x7fff + (u >> 16 & 1);
  u &= 0xffff0000;
  memcpy(to, &u, 4);
}
INLINE vf vload_bf16(const char *from) { return vload((const float *)from); }
