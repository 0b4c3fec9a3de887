/* A team of OpenMP threads that stays with the thread that called for it.
 *
 * WHY NOT ONE PARALLEL REGION PER CALL  A region ends when every thread of it has arrived. Where another process holds a
 * core, a thread that has done nothing yet arrives milliseconds late, and a pass of a half millisecond waits for it
 * several times. Here a region is opened once and its threads take tasks from one call after another: a call ends when
 * its tasks are done, and waits for no thread that took none.
 * WAITING  A thread without a task, and a caller whose tasks others still run, look for a short while and then sleep in
 * the kernel, so that they take no time from whoever works on the same core. */
#ifndef MOE_TEAM_H
#define MOE_TEAM_H

#include "include/CKernels.h"

/* The most threads that work on one call, the caller included. */
enum { TEAM_LIMIT = 1024 };

/* Runs `count` tasks, 1 to UINT32_MAX, on the calling thread and on up to `threads` − 1 others, at most TEAM_LIMIT in
 * all. Returns when all are done. `between` is called on the calling thread after each of its tasks and about every
 * `interval` nanoseconds of its waiting; NULL for nothing. A call from within a task runs on the thread of that task
 * alone, as thread 0. */
void team_run(int threads, uint32_t count, moe_task task, void *context, void (*between)(void),
              int64_t interval);

#endif
