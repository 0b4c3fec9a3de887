#include "AllocationCounter.h"
#include "CKernels.h"
#include <errno.h>
#include <sched.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>

#if defined(__GLIBC__) && !__has_feature(address_sanitizer) && !__has_feature(thread_sanitizer) &&           \
    !__has_feature(memory_sanitizer)

/* The count of the thread that started, and where a thread of its team finds it; NULL on all other threads. */
static _Thread_local _Atomic int64_t allocations;
static _Thread_local _Atomic int64_t *counter;

static void count(void) {
  if (counter) atomic_fetch_add(counter, 1);
}

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);
extern void __libc_free(void *);

void *malloc(size_t bytes) {
  count();
  return __libc_malloc(bytes);
}
void *calloc(size_t number, size_t bytes) {
  count();
  return __libc_calloc(number, bytes);
}
void *realloc(void *memory, size_t bytes) {
  count();
  return __libc_realloc(memory, bytes);
}
void *memalign(size_t alignment, size_t bytes) {
  count();
  return __libc_memalign(alignment, bytes);
}
void *aligned_alloc(size_t alignment, size_t bytes) { return memalign(alignment, bytes); }
int posix_memalign(void **memory, size_t alignment, size_t bytes) {
  *memory = memalign(alignment, bytes);
  return *memory ? 0 : ENOMEM;
}
void free(void *memory) { __libc_free(memory); }

/* Each task waits for the others, so each runs on a thread of its own: the caller's and those of its team, which stays
 * with it from call to call. */
typedef struct {
  _Atomic int64_t *counter;
  int threads;
  _Atomic int arrived;
} arming;

static void arm(void *context, int64_t task, int thread) {
  (void)task, (void)thread;
  arming *a = context;
  counter = a->counter;
  atomic_fetch_add(&a->arrived, 1);
  while (atomic_load(&a->arrived) < a->threads) sched_yield();
}

static void arm_team(_Atomic int64_t *counter, int threads) {
  arming a = {.counter = counter, .threads = threads};
  moe_parallel_for(threads, threads, arm, &a);
}

bool allocation_counter_works(void) { return true; }

void allocation_counter_start(int threads) {
  arm_team(&allocations, threads);
  atomic_store(&allocations, 0);
}

int64_t allocation_counter_stop(int threads) {
  const int64_t counted = atomic_load(&allocations);
  arm_team(NULL, threads);
  return counted;
}

#else

bool allocation_counter_works(void) { return false; }
void allocation_counter_start(int threads) { (void)threads; }
int64_t allocation_counter_stop(int threads) { return (void)threads, 0; }

#endif
