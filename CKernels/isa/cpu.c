/* Which instruction sets this CPU runs. */
#include "../include/CKernels.h"

bool moe_isa_supported(moe_isa isa) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  switch (isa) {
  case MOE_SCALAR:
    return true;
  case MOE_AVX2:
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  case MOE_AVX512:
    return avx512;
  case MOE_AVX512BF16:
    return avx512 && __builtin_cpu_supports("avx512bf16");
  default:
    return false;
  }
#else
  return isa == MOE_SCALAR;
#endif
}
