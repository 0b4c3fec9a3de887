/* OpenMP, in this one place. The runtime is called through its C ABI, so no -fopenmp is needed, which a
 * package that others depend on by version may not ask for; and clang rejects vector intrinsics inside an
 * outlined OpenMP body, so threads live in the kernels' .c files and intrinsics in their .inc.h files. */
#ifndef MOE_PARALLEL_H
#define MOE_PARALLEL_H

#include "include/CKernels.h"

#endif
