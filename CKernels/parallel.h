/* OpenMP, in this one place. The runtime is called through its C ABI, so no -fopenmp is needed, which a
 * package that others depend on by version may not ask for; and clang rejects vector intrinsics inside an
 * outlined OpenMP body, so threads live in the kernels' .c files and intrinsics in their .inc.h files. */
#ifndef MOE_PARALLEL_H
#define MOE_PARALLEL_H

#include <stdint.h>

/* One task of `count`, on thread `thread` of the team. */
typedef void (*moe_task)(void *context, int64_t task, int thread);

/* Runs every task once on up to `threads` threads, each taking the next one when it is free. Returns when all
 * are done. Which thread runs a task is left open, so tasks must not depend on it for their results. */
void moe_parallel_for(int threads, int64_t count, moe_task task, void *context);

#endif
