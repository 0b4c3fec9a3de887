/* Includes TEMPLATE for one instruction set: once, or once for each number format where the kernel's .c file defines
 * PER_FORMAT. isa/foreach.h includes this file for each instruction set. */
#if defined(PER_FORMAT)
#define VARIANT MOE_JOIN(FORMAT, ISA)

#define FORMAT float32
#include "float32.h"
#include TEMPLATE
#undef FORMAT

#define FORMAT bfloat16
#include "bfloat16.h"
#include TEMPLATE
#undef FORMAT

#else
#define VARIANT ISA
#include TEMPLATE
#endif
#undef VARIANT
