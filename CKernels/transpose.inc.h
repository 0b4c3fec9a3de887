/* Blocks of a forward product's panels, transposed where the way back reads them.
 *
 * SHAPES       panels over K of W [N,K], as pack.c lays them out → panels over N of Wᵀ [K,N]
 * DEFINITION   to[k/16][n][k%16] = from[n/16][k][n%16], zero where there is no panel n/16
 * REGULARITIES 16 values of n by 16 of k are contiguous on either side, 1 KiB in fp32 and 512 bytes in bfloat16.
 *              Such a square is 8×8 elements of 64 bits once pairs of k, or of lines, have changed places.
 * EXAMPLE      AVX-512, 256 columns by 512 bfloat16 of n: 256 KiB from memory into L2, 512 squares. */

typedef uint64_t SUFFIX(octet) __attribute__((vector_size(64), aligned(8)));
typedef uint32_t SUFFIX(words) __attribute__((vector_size(64), aligned(8)));
typedef uint16_t SUFFIX(halves) __attribute__((vector_size(64), aligned(8)));

#define SWAP_OCTETS(d)                                                                                       \
  UNROLL for (int i = 0; i < 8; i++) if (!(i & d)) {                                                         \
    const SUFFIX(octet) a = v[i], b = v[i + d];                                                              \
    v[i] = __builtin_shufflevector(a, b, LOW_##d);                                                           \
    v[i + d] = __builtin_shufflevector(a, b, HIGH_##d);                                                      \
  }
#define LOW_1  0, 8, 2, 10, 4, 12, 6, 14
#define HIGH_1 1, 9, 3, 11, 5, 13, 7, 15
#define LOW_2  0, 1, 8, 9, 4, 5, 12, 13
#define HIGH_2 2, 3, 10, 11, 6, 7, 14, 15
#define LOW_4  0, 1, 2, 3, 8, 9, 10, 11
#define HIGH_4 4, 5, 6, 7, 12, 13, 14, 15

#define transpose_octets SUFFIX(transpose_octets)
INLINE void transpose_octets(SUFFIX(octet) * v){SWAP_OCTETS(1) SWAP_OCTETS(2) SWAP_OCTETS(4)}

/* [16 k][16 n] to [16 n][16 k]. */
#define transpose_square_f32 SUFFIX(transpose_square_f32)
INLINE void transpose_square_f32(const char *from, char *to) {
  SUFFIX(octet) even[8], odd[8];
  UNROLL for (int i = 0; i < 8; i++) {
    const SUFFIX(words) a = *(const SUFFIX(words) *)(from + i * 128);
    const SUFFIX(words) b = *(const SUFFIX(words) *)(from + i * 128 + 64);
    even[i] = (SUFFIX(octet))__builtin_shufflevector(a, b, 0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28,
                                                     14, 30);
    odd[i] = (SUFFIX(octet))__builtin_shufflevector(a, b, 1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29,
                                                    15, 31);
  }
  transpose_octets(even);
  transpose_octets(odd);
  UNROLL for (int i = 0; i < 8; i++) {
    *(SUFFIX(octet) *)(to + i * 128) = even[i];
    *(SUFFIX(octet) *)(to + i * 128 + 64) = odd[i];
  }
}

/* [8 pairs of k][16 n][2] to [8 pairs of n][16 k][2]. */
#define transpose_square_bf16 SUFFIX(transpose_square_bf16)
INLINE void transpose_square_bf16(const char *from, char *to) {
  SUFFIX(octet) v[8];
  UNROLL for (int i = 0; i < 8; i++) {
    const SUFFIX(halves) a = *(const SUFFIX(halves) *)(from + i * 64);
    v[i] =
        (SUFFIX(octet))__builtin_shufflevector(a, a, 0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11, 12, 14, 13, 15, 16,
                                               18, 17, 19, 20, 22, 21, 23, 24, 26, 25, 27, 28, 30, 29, 31);
  }
  transpose_octets(v);
  UNROLL for (int i = 0; i < 8; i++) * (SUFFIX(octet) *)(to + i * 64) = v[i];
}

/* `count` panels from `from` on, of which `there` exist, at the k of `panels` panels: to panels `stride` apart. */
#define transpose_block SUFFIX(transpose_block)
static void transpose_block(bool bf16, const char *from, size_t panel, int64_t there, int64_t count,
                            int64_t panels, char *to, size_t stride) {
  const size_t square = bf16 ? 512 : 1024;
  for (int64_t q = 0; q < count; q++)
    for (int64_t p = 0; p < panels; p++) {
      char *target = to + p * stride + q * square;
      if (q >= there)
        memset(target, 0, square);
      else if (bf16)
        transpose_square_bf16(from + q * panel + p * square, target);
      else
        transpose_square_f32(from + q * panel + p * square, target);
    }
}
