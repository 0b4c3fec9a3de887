/* OpenMP, in this one place. The runtime is called through its C ABI, so this target needs no -fopenmp: a package that
 * others depend on by version may not ask for that flag. Clang rejects vector intrinsics inside an outlined OpenMP body,
 * so threads live in the kernels' .c files and intrinsics in their .inc.h files. */
#include "include/CKernels.h"
#include <stdatomic.h>
#include <time.h>

#if defined(__linux__)
extern void GOMP_parallel(void (*body)(void *), void *data, unsigned threads, unsigned flags);
extern int omp_get_thread_num(void);
#else
/* No OpenMP runtime is linked elsewhere: a team of one. */
static void GOMP_parallel(void (*body)(void *), void *data, unsigned threads, unsigned flags) {
  (void)threads, (void)flags;
  body(data);
}
static int omp_get_thread_num(void) { return 0; }
#endif

/* What the calling thread does between tasks. */
static _Thread_local struct {
  void (*poll)(void *);
  void *context;
  int64_t interval, next;
} polling;

static int64_t nanoseconds(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static void poll(void) {
  if (!polling.poll) return;
  const int64_t now = nanoseconds();
  if (now < polling.next) return;
  polling.next = now + polling.interval;
  polling.poll(polling.context);
}

void moe_set_poll(void (*poll)(void *), void *context, int64_t interval) {
  polling.poll = poll;
  polling.context = context;
  polling.interval = interval;
  polling.next = 0;
}

typedef struct {
  moe_task task;
  void *context;
  int64_t count;
  _Atomic int64_t next;
} team;

static void work(void *data) {
  team *t = data;
  /* The caller is thread 0 of its team. */
  const int thread = omp_get_thread_num();
  for (;;) {
    const int64_t task = atomic_fetch_add_explicit(&t->next, 1, memory_order_relaxed);
    if (task >= t->count) return;
    t->task(t->context, task, thread);
    if (thread == 0) poll();
  }
}

void moe_parallel_for(int threads, int64_t count, moe_task task, void *context) {
  if (threads <= 1 || count <= 1) {
    for (int64_t i = 0; i < count; i++) {
      task(context, i, 0);
      poll();
    }
    return;
  }
  team t = {.task = task, .context = context, .count = count};
  atomic_init(&t.next, 0);
  GOMP_parallel(work, &t, (unsigned)(threads < count ? threads : count), 0);
}
