/* The vocabulary in which the templates (*.inc.h) are written.
 *
 * foreach.h includes a template once for each instruction set with ISA defined; every name below then stands
 * for name_<ISA>, defined by the header of that machine. A vector `vf` has W floats; NV vectors make one
 * panel of 16 columns; MR is the number of rows of a tile. */
#ifndef MOE_ISA_H
#define MOE_ISA_H

#include "../include/CKernels.h"
#include <math.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define MOE_JOIN_(a, b) a##_##b
#define MOE_JOIN(a, b)  MOE_JOIN_(a, b)
#define SUFFIX(name)    MOE_JOIN(name, ISA)

/* Memory to bring into L2 while something else is computed: so many lines from `at` with every chunk. */
typedef struct {
  const char *at;
  int64_t lines;
} fetch;

/* Runs of lines, so many bytes apart, of which the next block of panels will be made. */
typedef struct {
  const char *at;
  size_t stride;
  int64_t runs, lines;
} fetch_runs;

#define INLINE static inline __attribute__((always_inline, unused))
#define UNROLL _Pragma("clang loop unroll(full)")

/* Sizes. */
#define W                SUFFIX(W)
#define NV               SUFFIX(NV)
#define MR               SUFFIX(MR)
#define TILE_NV          SUFFIX(TILE_NV)    /* the most vectors in a row of a tile */
#define OUTER_ROWS       SUFFIX(OUTER_ROWS) /* rows and panels of a tile of weight gradients */
#define OUTER_PANELS     SUFFIX(OUTER_PANELS)
#define SPIN_SUMS        SUFFIX(SPIN_SUMS) /* sums that measure the FMA peak */
#define BF16_CHUNK_BYTES SUFFIX(BF16_CHUNK_BYTES)

/* Vectors. */
#define vf          SUFFIX(vf)
#define vload       SUFFIX(vload)       /* W floats */
#define vload_n     SUFFIX(vload_n)     /* n floats, then zeros */
#define vstore      SUFFIX(vstore)      /* W floats */
#define vstore_n    SUFFIX(vstore_n)    /* the first n floats */
#define vset1       SUFFIX(vset1)       /* one float in every lane */
#define vadd        SUFFIX(vadd)        /* a + b */
#define vsub        SUFFIX(vsub)        /* a − b */
#define vmul        SUFFIX(vmul)        /* a · b */
#define vdiv        SUFFIX(vdiv)        /* a / b */
#define vmax        SUFFIX(vmax)        /* the larger */
#define vmin        SUFFIX(vmin)        /* the smaller */
#define vfma        SUFFIX(vfma)        /* a · b + c, rounded once where the machine can */
#define vsqrt       SUFFIX(vsqrt)       /* √a */
#define vround      SUFFIX(vround)      /* to the nearest integer, ties to even */
#define vpow2       SUFFIX(vpow2)       /* 2^n for integral −126 ≤ n ≤ 127 */
#define vselect_lt  SUFFIX(vselect_lt)  /* a < b ? x : y */
#define vreduce_add SUFFIX(vreduce_add) /* the sum of the lanes, in one fixed order */
#define vreduce_max SUFFIX(vreduce_max) /* the largest lane */
#define vfirst_eq   SUFFIX(vfirst_eq)   /* the first lane equal to s, W where there is none */

/* bfloat16: what one step of a tile does with a pair of k, and how 16 values of a row enter a row tile. */
#define step_bf16        SUFFIX(step_bf16)
#define vpair            SUFFIX(vpair) /* acc + the products of a pair, in the fastest way of the machine */
#define row16_store_bf16 SUFFIX(row16_store_bf16)
#define row16_load_bf16  SUFFIX(row16_load_bf16) /* … and come back from it */

#endif
