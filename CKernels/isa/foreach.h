/* Includes TEMPLATE once for every instruction set that the compiler knows, each under its target attribute. Every
 * kernel's .c file defines TEMPLATE and includes this file, which therefore has no include guard. */
#include "isa.h"

#define ISA scalar
#include "scalar.h"
#include "../formats/foreach.h"
#undef ISA

#if defined(__x86_64__)

#define ISA avx2
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#include "avx2.h"
#include "../formats/foreach.h"
#pragma clang attribute pop
#undef ISA

#define ISA avx512
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma"))),         \
                             apply_to = function)
#include "avx512.h"
#include "../formats/foreach.h"
#pragma clang attribute pop
#undef ISA

#define ISA avx512bf16
#pragma clang attribute push(                                                                                \
    __attribute__((target("avx512bf16,avx512f,avx512bw,avx512dq,avx512vl,avx2,fma"))), apply_to = function)
#include "avx512bf16.h"
#include "../formats/foreach.h"
#pragma clang attribute pop
#undef ISA

/* A table of a function's instances: by instruction set, worst to best, and in each by number format where the template
 * is written for each format. */
#define ISA_TABLE(name) {name##_scalar, name##_avx2, name##_avx512, name##_avx512bf16}
#define FORMAT_TABLE(name)                                                                                   \
  {FORMATS(name, scalar), FORMATS(name, avx2), FORMATS(name, avx512), FORMATS(name, avx512bf16)}
#else
#define ISA_TABLE(name) {name##_scalar, name##_scalar, name##_scalar, name##_scalar}
#define FORMAT_TABLE(name)                                                                                   \
  {FORMATS(name, scalar), FORMATS(name, scalar), FORMATS(name, scalar), FORMATS(name, scalar)}
#endif
#define FORMATS(name, isa) {name##_float32_##isa, name##_bfloat16_##isa}

#undef TEMPLATE
