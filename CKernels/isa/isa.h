/* The vocabulary in which the templates (*.inc.h) are written.
 *
 * foreach.h includes a template once for each instruction set, with ISA defined. Every name below then stands for
 * name_<ISA>, which the header of that machine defines. A vector `vf` has W floats; NV vectors make one
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

/* The name of a template's function or type in the instance that is being compiled: name_<ISA>, or name_<FORMAT>_<ISA>
 * where the template is written once for each number format. */
#define KERNEL(name) MOE_JOIN(name, VARIANT)

#define INLINE static inline __attribute__((always_inline, unused))
#define UNROLL _Pragma("clang loop unroll(full)")

/* Sizes. */
#define W            SUFFIX(W)
#define NV           SUFFIX(NV)
#define MR           SUFFIX(MR)
#define TILE_NV      SUFFIX(TILE_NV)    /* the most vectors in a row of a tile */
#define OUTER_ROWS   SUFFIX(OUTER_ROWS) /* rows and panels of a tile of weight gradients */
#define OUTER_PANELS SUFFIX(OUTER_PANELS)
#define SPIN_SUMS    SUFFIX(SPIN_SUMS)  /* sums that measure the FMA peak */
#define PAIR_PARTS   SUFFIX(PAIR_PARTS) /* multiply-adds of a pair of bfloat16: see below */

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
#define vfirst_eq   SUFFIX(vfirst_eq)   /* the first lane equal to s, or W if no lane is */

/* bfloat16. Where one instruction multiplies pairs, PAIR_PARTS is 1: a part is W pairs in 32 bits each, and rows are kept
 * in bfloat16. Elsewhere PAIR_PARTS is 2: a part is the first or the second value of W pairs, widened to floats, and rows
 * are kept as floats that are rounded to bfloat16. */
#define vpair_part  SUFFIX(vpair_part)  /* a part of the W pairs at p */
#define vpair_fma   SUFFIX(vpair_fma)   /* the products of parts a and b, plus c */
#define vstore_bf16 SUFFIX(vstore_bf16) /* W floats as a row keeps them: 2 · PAIR_PARTS bytes each */
#define vload_bf16  SUFFIX(vload_bf16)  /* W values of a row as floats */

#endif
