/* Transposition of 8×8 elements of 64 bits: every square of a panel becomes such once its pairs of k, or of lines, have
 * changed places. The header of each number format includes this file. */

typedef uint64_t KERNEL(octet) __attribute__((vector_size(64), aligned(8)));
typedef uint32_t KERNEL(words) __attribute__((vector_size(64), aligned(8)));
typedef uint16_t KERNEL(halves) __attribute__((vector_size(64), aligned(8)));

#define SWAP_OCTETS(d)                                                                                       \
  UNROLL for (int i = 0; i < 8; i++) if (!(i & d)) {                                                         \
    const KERNEL(octet) a = v[i], b = v[i + d];                                                              \
    v[i] = __builtin_shufflevector(a, b, LOW_##d);                                                           \
    v[i + d] = __builtin_shufflevector(a, b, HIGH_##d);                                                      \
  }
#define LOW_1  0, 8, 2, 10, 4, 12, 6, 14
#define HIGH_1 1, 9, 3, 11, 5, 13, 7, 15
#define LOW_2  0, 1, 8, 9, 4, 5, 12, 13
#define HIGH_2 2, 3, 10, 11, 6, 7, 14, 15
#define LOW_4  0, 1, 2, 3, 8, 9, 10, 11
#define HIGH_4 4, 5, 6, 7, 12, 13, 14, 15

INLINE void KERNEL(transpose_octets)(KERNEL(octet) * v) { SWAP_OCTETS(1) SWAP_OCTETS(2) SWAP_OCTETS(4) }

#undef SWAP_OCTETS
#undef LOW_1
#undef HIGH_1
#undef LOW_2
#undef HIGH_2
#undef LOW_4
#undef HIGH_4
