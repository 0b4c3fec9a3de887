#include "team.h"
#include <time.h>

/* The function that the calling thread runs between its tasks. */
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

/* Tasks from `start` on of a loop that has more than a team counts. */
typedef struct {
  moe_task task;
  void *context;
  int64_t start;
} loop_part;

static void part_task(void *context, int64_t task, int thread) {
  const loop_part *part = context;
  part->task(part->context, part->start + task, thread);
}

void moe_parallel_for(int threads, int64_t count, moe_task task, void *context) {
  void (*const between)(void) = polling.poll ? poll : NULL;
  if (count > 0 && count <= UINT32_MAX) {
    team_run(threads, (uint32_t)count, task, context, between, polling.interval);
    return;
  }
  for (int64_t start = 0; start < count; start += UINT32_MAX) {
    loop_part part = {.task = task, .context = context, .start = start};
    const int64_t rest = count - start;
    team_run(threads, (uint32_t)(rest < UINT32_MAX ? rest : UINT32_MAX), part_task, &part, between,
             polling.interval);
  }
}
