/* The environment's word on threads. The OpenMP runtime aborts the process at its first call where it cannot read some
 * of its variables, so a constructor reads them before it, keeps its own copy of what they say, and removes those that
 * the runtime would stumble over. A constructor runs while the process has one thread, so nobody reads the
 * environment meanwhile. */
#define _GNU_SOURCE
#include "include/CKernels.h"
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#if defined(__linux__)
#include <sched.h>
#endif

enum { MAX_THREADS = 1024, VALUE_BYTES = 128, PATH_BYTES = 4096 };

/* ---- values --------------------------------------------------------------------------------------------- */

static bool is_space(char c) { return c == ' ' || c == '\t'; }

static const char *skip_spaces(const char *text) {
  while (is_space(*text)) text++;
  return text;
}

/* Reads decimal digits, and stops at LLONG_MAX / 16 rather than overflow. NULL where there is no digit. */
static const char *read_number(const char *text, long long *value) {
  if (*text < '0' || *text > '9') return NULL;
  for (*value = 0; *text >= '0' && *text <= '9'; text++) {
    if (*value < LLONG_MAX / 16) *value = *value * 10 + (*text - '0');
  }
  return text;
}

/* A list of numbers of threads, one for each level of nested teams; the first is the one that the kernels use. */
static bool read_thread_list(const char *text, int *first) {
  for (bool is_first = true;; is_first = false) {
    long long value;
    text = read_number(skip_spaces(text), &value);
    if (!text || value < 1 || value > MAX_THREADS) return false;
    if (is_first) *first = (int)value;
    text = skip_spaces(text);
    if (!*text) return true;
    if (*text++ != ',') return false;
  }
}

static bool read_limit(const char *text, int *limit) {
  long long value;
  text = read_number(skip_spaces(text), &value);
  if (!text || value < 1 || *skip_spaces(text)) return false;
  *limit = value < INT_MAX ? (int)value : INT_MAX;
  return true;
}

/* A size in KiB or in a unit that is named. Below 256 KiB a kernel's tiles may not fit the stack; the runtime aborts
 * where the system has no room for the stack. */
static bool read_stack(const char *text, int *unused) {
  (void)unused;
  long long value;
  text = read_number(skip_spaces(text), &value);
  if (!text) return false;
  text = skip_spaces(text);
  long long unit = 1024;
  switch (*text) {
  case 'b':
  case 'B':
    unit = 1;
    break;
  case 'm':
  case 'M':
    unit = 1 << 20;
    break;
  case 'g':
  case 'G':
    unit = 1 << 30;
    break;
  case 'k':
  case 'K':
  case 0:
    break;
  default:
    return false;
  }
  if (*text && *text != 'b' && *text != 'B') text++;
  if (*text == 'b' || *text == 'B') text++;
  if (*skip_spaces(text) || value > (4LL << 30)) return false;
  return value * unit >= 256 << 10 && value * unit <= 4LL << 30;
}

/* A list of N, N-M and N-M:STRIDE. */
static bool read_processors(const char *text, int *unused) {
  (void)unused;
  for (text = skip_spaces(text);;) {
    long long value;
    if (!(text = read_number(text, &value)) || value >= 1 << 16) return false;
    if (*text == '-') {
      if (!(text = read_number(text + 1, &value)) || value >= 1 << 16) return false;
      if (*text == ':' && (!(text = read_number(text + 1, &value)) || value < 1)) return false;
    }
    const char *next = skip_spaces(text);
    if (!*next) return true;
    if (*next == ',') {
      next = skip_spaces(next + 1);
    } else if (next == text) {
      return false;
    }
    text = next;
  }
}

/* ---- variables ------------------------------------------------------------------------------------------ */

enum {
  NUM_THREADS,
  THREAD_LIMIT,
  DEVICE_LIMIT,
  ALL_LIMIT,
  OMP_STACK,
  GOMP_STACK,
  KMP_STACK,
  AFFINITY,
  VARIABLES
};

static struct {
  const char *name;
  bool (*read)(const char *text, int *value);
  const char *expected;
  /* The runtime aborts where this many threads are met by ranks that are threads themselves, so it is not told. */
  bool is_kept_from_runtime;
  /* 0 where the variable is not set. */
  int value;
  bool is_fault;
  char text[VALUE_BYTES];
} variables[VARIABLES] = {
    [NUM_THREADS] = {"OMP_NUM_THREADS", read_thread_list, "a number of threads from 1 to 1024"},
    [THREAD_LIMIT] = {"OMP_THREAD_LIMIT", read_limit, "a number of threads of at least 1"},
    [DEVICE_LIMIT] = {"KMP_DEVICE_THREAD_LIMIT", read_limit, "a number of threads of at least 1", true},
    [ALL_LIMIT] = {"KMP_ALL_THREADS", read_limit, "a number of threads of at least 1", true},
    [OMP_STACK] = {"OMP_STACKSIZE", read_stack, "a size from 256K to 4G"},
    [GOMP_STACK] = {"GOMP_STACKSIZE", read_stack, "a size from 256K to 4G"},
    [KMP_STACK] = {"KMP_STACKSIZE", read_stack, "a size from 256K to 4G"},
    [AFFINITY] = {"GOMP_CPU_AFFINITY", read_processors, "a list of processors such as 0-3,6"},
};

__attribute__((constructor)) static void read_environment(void) {
  for (int i = 0; i < VARIABLES; i++) {
    const char *text = getenv(variables[i].name);
    if (!text) continue;
    const bool is_empty = !*skip_spaces(text);
    if (!is_empty && !variables[i].read(text, &variables[i].value)) {
      variables[i].is_fault = true;
      snprintf(variables[i].text, VALUE_BYTES, "%s", text);
    }
    if (is_empty || variables[i].is_fault || variables[i].is_kept_from_runtime) unsetenv(variables[i].name);
  }
}

bool moe_environment_fault(bool reads_thread_count, moe_variable *fault) {
  for (int i = reads_thread_count ? 0 : NUM_THREADS + 1; i < VARIABLES; i++) {
    if (!variables[i].is_fault) continue;
    *fault = (moe_variable){variables[i].name, variables[i].text, variables[i].expected};
    return true;
  }
  return false;
}

int moe_thread_limit(void) {
  int limit = INT_MAX;
  for (int i = THREAD_LIMIT; i <= ALL_LIMIT; i++) {
    if (variables[i].value && variables[i].value < limit) limit = variables[i].value;
  }
  return limit;
}

/* ---- processors ----------------------------------------------------------------------------------------- */

static int processors_of_affinity(void) {
#if defined(__linux__)
  /* A mask shorter than the kernel's is refused, so it grows until it is long enough. */
  for (int count = CPU_SETSIZE; count <= 1 << 20; count *= 2) {
    cpu_set_t *set = CPU_ALLOC(count);
    if (!set) return 1;
    const size_t bytes = CPU_ALLOC_SIZE(count);
    const bool is_read = sched_getaffinity(0, bytes, set) == 0;
    const int found = is_read ? CPU_COUNT_S(bytes, set) : 0;
    CPU_FREE(set);
    if (is_read) return found > 0 ? found : 1;
  }
#endif
  return 1;
}

/* Reads the first line of the file `name` of `folder`. */
static bool read_line(const char *folder, const char *name, char line[VALUE_BYTES]) {
  char path[PATH_BYTES + VALUE_BYTES];
  if (snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path) return false;
  FILE *file = fopen(path, "re");
  if (!file) return false;
  const bool is_read = fgets(line, VALUE_BYTES, file);
  fclose(file);
  return is_read;
}

/* Processors that a control group may use, rounded up; INT_MAX where it has no limit of its own. */
static int processors_of_group(const char *folder) {
  char line[VALUE_BYTES], other[VALUE_BYTES];
  long long quota, period;
  const bool is_limited =
      (read_line(folder, "cpu.max", line) && sscanf(line, "%lld %lld", &quota, &period) == 2) ||
      (read_line(folder, "cpu.cfs_quota_us", line) && sscanf(line, "%lld", &quota) == 1 &&
       read_line(folder, "cpu.cfs_period_us", other) && sscanf(other, "%lld", &period) == 1);
  if (!is_limited || quota <= 0 || period <= 0 || quota / period >= INT_MAX) return INT_MAX;
  return (int)(quota / period + (quota % period != 0));
}

/* Whether a line of /proc/self/cgroup, N:CONTROLLERS:PATH, is about processors; version 2 names no controller. */
static bool is_about_processors(const char *controllers, const char *end) {
  if (controllers == end) return true;
  while (controllers < end) {
    const char *comma = memchr(controllers, ',', (size_t)(end - controllers));
    const char *stop = comma ? comma : end;
    if (stop - controllers == 3 && !memcmp(controllers, "cpu", 3)) return true;
    controllers = stop + 1;
  }
  return false;
}

int moe_processors_of_groups(const char *membership, const char *mount) {
  FILE *file = fopen(membership, "re");
  if (!file) return INT_MAX;
  int least = INT_MAX;
  char line[PATH_BYTES];
  while (fgets(line, sizeof line, file)) {
    char *controllers = strchr(line, ':');
    char *path = controllers ? strchr(controllers + 1, ':') : NULL;
    if (!path || !is_about_processors(controllers + 1, path)) continue;
    const bool is_version2 = controllers + 1 == path;
    path++;
    path[strcspn(path, "\n")] = 0;
    /* Every group around this one limits it too. Inside a container the outer folders may be missing. */
    for (;;) {
      char folder[PATH_BYTES];
      const int length = snprintf(folder, sizeof folder, "%s%s%s", mount, is_version2 ? "" : "/cpu", path);
      if (length < (int)sizeof folder) {
        const int count = processors_of_group(folder);
        if (count < least) least = count;
      }
      char *slash = strrchr(path, '/');
      if (!slash) break;
      *slash = 0;
    }
  }
  fclose(file);
  return least;
}

static int least(int a, int b) { return a < b ? a : b; }

int moe_default_threads(void) {
  const int limit = least(moe_thread_limit(), MAX_THREADS);
  if (variables[NUM_THREADS].value) return least(variables[NUM_THREADS].value, limit);
  static _Atomic int found;
  int count = atomic_load_explicit(&found, memory_order_relaxed);
  if (!count) {
    count = least(processors_of_affinity(), moe_processors_of_groups("/proc/self/cgroup", "/sys/fs/cgroup"));
    atomic_store_explicit(&found, count, memory_order_relaxed);
  }
  return least(count, limit);
}
