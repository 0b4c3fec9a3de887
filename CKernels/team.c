/* OpenMP, in this one place. The runtime is called through its C ABI, so this target needs no -fopenmp: a package that
 * others depend on by version may not ask for that flag. Clang rejects vector intrinsics inside an outlined OpenMP body,
 * so threads live in the kernels' .c files and intrinsics in their .inc.h files. */
#include "team.h"

#if defined(__linux__)

#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

extern void GOMP_parallel(void (*body)(void *), void *data, unsigned threads, unsigned flags);
extern int omp_get_thread_num(void);
extern void kmp_set_blocktime(int milliseconds);

/* How long a thread looks for a change before it sleeps: longer than what passes between the stages of a layer, and
 * a small part of what the scheduler gives another process at a time. */
enum { SPIN_NANOSECONDS = 50000, LOOKS_PER_CLOCK = 32 };

/* Who writes each field, and when, is the whole of the synchronisation:
 * the caller writes task, context and count while no task is open, then opens them by storing `open`;
 * a thread reads them after it has taken a task, until it has counted that task as done;
 * the caller returns when all are done. So a thread that comes late takes nothing and reads nothing. */
typedef struct team {
  /* The tasks not yet taken in the low half, the number of threads that may take them in the high half. One word, so
   * that taking a task and finding out whether there is one are one operation. */
  _Alignas(64) _Atomic uint64_t open;
  _Alignas(64) _Atomic uint32_t unfinished; /* tasks that are not done */
  _Atomic uint32_t caller_sleeps;
  _Alignas(64) _Atomic uint32_t bell; /* rung for every call, and to end the team */
  _Atomic uint32_t sleepers;          /* threads that must be woken to hear the bell */
  _Atomic uint32_t ended;
  moe_task task;
  void *context;
  uint32_t count;
  int threads; /* the caller included */
  pthread_t host;
  pid_t process; /* a child made by fork has the memory of a team, but none of its threads */
  struct team *next, **link;
} team;

/* The team of the calling thread; the key ends it with the thread. */
static _Thread_local team *own_team;
static pthread_key_t team_key;
static pthread_once_t prepare_once = PTHREAD_ONCE_INIT;

/* All teams. The runtime is torn down when the process exits, so all regions must have ended before. */
static pthread_mutex_t teams_lock = PTHREAD_MUTEX_INITIALIZER;
static team *teams;
static bool process_exits;

/* Whether the calling thread is running a task of some team, and whether it is a thread of a region. */
static _Thread_local bool runs_task, serves;

static int64_t nanoseconds(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static void pause_core(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

static void sleep_while(_Atomic uint32_t *word, uint32_t value, int64_t at_most) {
  const struct timespec time = {.tv_sec = at_most / 1000000000, .tv_nsec = at_most % 1000000000};
  syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, at_most > 0 ? &time : NULL, NULL, 0);
}

static void wake(_Atomic uint32_t *word) { syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0); }

/* Takes a task as thread `thread` and runs it; false where there is none to take. */
static bool run_one(team *t, int thread) {
  uint64_t open = atomic_load_explicit(&t->open, memory_order_relaxed);
  do {
    if ((uint32_t)open == 0 || thread >= (int)(open >> 32)) return false;
  } while (!atomic_compare_exchange_weak_explicit(&t->open, &open, open - 1, memory_order_acquire,
                                                  memory_order_relaxed));
  t->task(t->context, t->count - (uint32_t)open, thread);
  /* Sequentially consistent with the caller's store of `caller_sleeps`: one of the two sees the other. */
  if (atomic_fetch_sub(&t->unfinished, 1) == 1 && atomic_load(&t->caller_sleeps)) wake(&t->unfinished);
  return true;
}

/* The bits by which threads with a number below `threads` are woken: each of the first has a bit of its own, the others
 * share the last. */
static uint32_t bits_below(int threads) { return threads > 31 ? UINT32_MAX : (1u << threads) - 1; }
static uint32_t bit_of(int thread) { return 1u << (thread < 31 ? thread : 31); }

/* Sequentially consistent with a thread's count of the sleepers: it hears the bell, or is counted and woken. */
static void ring(team *t, int threads) {
  atomic_fetch_add(&t->bell, 1);
  if (atomic_load(&t->sleepers))
    syscall(SYS_futex, &t->bell, FUTEX_WAKE_BITSET_PRIVATE, INT_MAX, NULL, NULL, bits_below(threads));
}

/* Waits until the bell is not at `heard` any more: looks until `until`, then sleeps. */
static void await_bell(team *t, int thread, uint32_t heard, int64_t until) {
  do {
    for (int i = 0; i < LOOKS_PER_CLOCK; i++) {
      if (atomic_load_explicit(&t->bell, memory_order_acquire) != heard) return;
      pause_core();
    }
  } while (nanoseconds() < until);
  atomic_fetch_add(&t->sleepers, 1);
  syscall(SYS_futex, &t->bell, FUTEX_WAIT_BITSET_PRIVATE, heard, NULL, NULL, bit_of(thread));
  atomic_fetch_sub(&t->sleepers, 1);
}

/* Runs tasks on each thread of the region. Thread 0 waits for the end alone, because its number is the caller's. */
static void serve(void *data) {
  team *t = data;
  const int thread = omp_get_thread_num();
  runs_task = serves = true;
  /* Only a task that it ran keeps a thread looking: a thread that calls leave out sleeps through them. */
  int64_t until = 0;
  while (!atomic_load(&t->ended)) {
    if (thread == 0) {
      sleep_while(&t->ended, 0, 0);
      continue;
    }
    const uint32_t heard = atomic_load(&t->bell);
    bool has_run = false;
    while (run_one(t, thread)) has_run = true;
    if (has_run) until = nanoseconds() + SPIN_NANOSECONDS;
    if (!atomic_load(&t->ended)) await_bell(t, thread, heard, until);
  }
}

static void *open_region(void *data) {
  team *t = data;
  /* When the region ends, the runtime keeps its threads for later ones; they sleep at once and do not look first. */
  kmp_set_blocktime(0);
  GOMP_parallel(serve, t, (unsigned)t->threads, 0);
  return NULL;
}

/* Ends the region. A thread of it ends with its last task. */
static void end_region(team *t) {
  if (t->process != getpid()) return;
  atomic_store(&t->ended, 1);
  wake(&t->ended);
  ring(t, TEAM_LIMIT);
  pthread_join(t->host, NULL);
}

/* Takes the team out of the list; false where the exit of the process has ended its region. */
static bool unlist(team *t) {
  pthread_mutex_lock(&teams_lock);
  const bool is_listed = t->link;
  if (is_listed) {
    *t->link = t->next;
    if (t->next) t->next->link = t->link;
    t->link = NULL;
  }
  pthread_mutex_unlock(&teams_lock);
  return is_listed;
}

static void end_team(void *data) {
  team *t = data;
  if (!unlist(t)) return;
  end_region(t);
  free(t);
}

/* Their callers may still be computing: they keep the memory of their teams, and go on alone. */
static void end_all_teams(void) {
  if (serves) return;
  pthread_mutex_lock(&teams_lock);
  process_exits = true;
  while (teams) {
    team *t = teams;
    teams = t->next;
    t->link = NULL;
    end_region(t);
  }
  pthread_mutex_unlock(&teams_lock);
}

static void prepare(void) {
  pthread_key_create(&team_key, end_team);
  atexit(end_all_teams);
}

/* Opens a region for the calling thread; NULL where the system gives no thread, or the process exits. */
static team *open_team(int threads) {
  team *t = aligned_alloc(_Alignof(team), sizeof(team));
  if (!t) return NULL;
  memset(t, 0, sizeof *t);
  t->threads = threads;
  t->process = getpid();
  pthread_mutex_lock(&teams_lock);
  const bool is_open = !process_exits && pthread_create(&t->host, NULL, open_region, t) == 0;
  if (is_open) {
    t->next = teams;
    t->link = &teams;
    if (teams) teams->link = &t->next;
    teams = t;
  }
  pthread_mutex_unlock(&teams_lock);
  if (is_open) return t;
  free(t);
  return NULL;
}

/* Returns the calling thread's team, of at least `threads`; NULL where it has to compute alone. */
static team *team_of(int threads) {
  if (own_team && own_team->threads >= threads) return own_team;
  pthread_once(&prepare_once, prepare);
  if (own_team) {
    pthread_setspecific(team_key, NULL);
    end_team(own_team);
  }
  own_team = open_team(threads);
  if (own_team) pthread_setspecific(team_key, own_team);
  return own_team;
}

/* Waits until all tasks are done: looks, then sleeps. */
static void await_tasks(team *t, void (*between)(void), int64_t interval) {
  const int64_t until = nanoseconds() + SPIN_NANOSECONDS;
  do {
    for (int i = 0; i < LOOKS_PER_CLOCK; i++) {
      if (atomic_load_explicit(&t->unfinished, memory_order_acquire) == 0) return;
      pause_core();
    }
    if (between) between();
  } while (nanoseconds() < until);
  atomic_store(&t->caller_sleeps, 1);
  for (uint32_t left; (left = atomic_load(&t->unfinished)) != 0;) {
    sleep_while(&t->unfinished, left, between ? interval : 0);
    if (between) between();
  }
  atomic_store(&t->caller_sleeps, 0);
}

static void run_alone(uint32_t count, moe_task task, void *context, void (*between)(void)) {
  for (uint32_t i = 0; i < count; i++) {
    task(context, i, 0);
    if (between) between();
  }
}

void team_run(int threads, uint32_t count, moe_task task, void *context, void (*between)(void),
              int64_t interval) {
  if (threads > TEAM_LIMIT) threads = TEAM_LIMIT;
  if ((uint32_t)threads > count) threads = (int)count;
  team *t = threads > 1 && !runs_task ? team_of(threads) : NULL;
  if (!t) {
    run_alone(count, task, context, between);
    return;
  }
  t->task = task;
  t->context = context;
  t->count = count;
  atomic_store_explicit(&t->unfinished, count, memory_order_relaxed);
  atomic_store_explicit(&t->open, (uint64_t)threads << 32 | count, memory_order_release);
  ring(t, threads);
  runs_task = true;
  while (run_one(t, 0)) {
    if (between) between();
  }
  runs_task = false;
  await_tasks(t, between, interval);
}

#else

/* No OpenMP runtime is linked elsewhere: the caller runs all tasks. */
void team_run(int threads, uint32_t count, moe_task task, void *context, void (*between)(void),
              int64_t interval) {
  (void)threads, (void)interval;
  for (uint32_t i = 0; i < count; i++) {
    task(context, i, 0);
    if (between) between();
  }
}

#endif
