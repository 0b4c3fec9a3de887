/* Includes TEMPLATE once for every instruction set the compiler knows, each under its target attribute.
 * No include guard: every kernel's .c file defines TEMPLATE and includes this. */
#include "isa.h"

#define ISA scalar
#include "scalar.h"
#include TEMPLATE
#undef ISA

#if defined(__x86_64__)

#define ISA avx2
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#include "avx2.h"
#include TEMPLATE
#pragma clang attribute pop
#undef ISA

#define ISA avx512
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma"))),         \
                             apply_to = function)
#include "avx512.h"
#include TEMPLATE
#pragma clang attribute pop
#undef ISA

#define ISA avx512bf16
#pragma clang attribute push(                                                                                \
    __attribute__((target("avx512bf16,avx512f,avx512bw,avx512dq,avx512vl,avx2,fma"))), apply_to = function)
#include "avx512bf16.h"
#include TEMPLATE
#pragma clang attribute pop
#undef ISA

/* A dispatch table from the names of the variants, worst to best. */
#define ISA_TABLE(name) {name##_scalar, name##_avx2, name##_avx512, name##_avx512bf16}
#else
#define ISA_TABLE(name) {name##_scalar, name##_scalar, name##_scalar, name##_scalar}
#endif

#undef TEMPLATE
