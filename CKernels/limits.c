/* The limits a kernel is measured against. */
#include "layout.h"
#include <time.h>

#define TEMPLATE "../limits.inc.h"
#define PER_FORMAT
#include "isa/foreach.h"

typedef float (*spin_fn)(int64_t);
typedef float (*sweep_fn)(const float *, int64_t);
typedef void (*update_fn)(float *, int64_t);
typedef int64_t (*work_fn)(void);
static const spin_fn spin_table[MOE_ISA_COUNT][MOE_FORMAT_COUNT] = FORMAT_TABLE(spin_flops);
static const work_fn work_table[MOE_ISA_COUNT][MOE_FORMAT_COUNT] = FORMAT_TABLE(spin_products);
/* Memory is read and written as floats whatever the format, so any instance serves. */
static const sweep_fn sweep_table[MOE_ISA_COUNT][MOE_FORMAT_COUNT] = FORMAT_TABLE(sweep_memory);
static const update_fn update_table[MOE_ISA_COUNT][MOE_FORMAT_COUNT] = FORMAT_TABLE(update_memory);

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

typedef struct {
  moe_execution ex;
  moe_format format;
  int64_t iterations, floats;
  const float *memory;
  volatile float sink;
} limit_args;

/* Uses a result that no caller needs, because the compiler would leave out a computation without a use. No result equals
 * the number, so threads never write to `sink`. */
static void keep(limit_args *g, float result) {
  const float never = 12345;
  if (result == never) g->sink = result;
}

static void spin(void *context, int64_t task, int thread) {
  (void)task, (void)thread;
  limit_args *g = context;
  keep(g, spin_table[g->ex.isa][g->format](g->iterations));
}

static void sweep(void *context, int64_t task, int thread) {
  (void)thread;
  limit_args *g = context;
  keep(g, sweep_table[g->ex.isa][MOE_FLOAT32](g->memory + task * g->floats, g->floats));
}

double moe_measure_flops(moe_execution ex, moe_format format, double seconds) {
  limit_args g = {.ex = ex, .format = format, .iterations = 100000};
  const double each = 2.0 * (double)work_table[ex.isa][format]() * ex.threads;
  double best = 0;
  const double end = now() + seconds;
  do {
    const double start = now();
    moe_parallel_for(ex.threads, ex.threads, spin, &g);
    const double took = now() - start;
    best = each * (double)g.iterations / took > best ? each * (double)g.iterations / took : best;
    /* A round should last long beside the start of the threads. */
    if (took < 5e-3) g.iterations *= 2;
  } while (now() < end);
  return best;
}

double moe_measure_read(moe_execution ex, const void *memory, size_t bytes, int rounds) {
  limit_args g = {.ex = ex, .memory = memory, .floats = (int64_t)(bytes / sizeof(float)) / ex.threads};
  double best = 0;
  for (int r = 0; r < rounds; r++) {
    const double start = now();
    moe_parallel_for(ex.threads, ex.threads, sweep, &g);
    const double rate = (double)(g.floats * ex.threads) * sizeof(float) / (now() - start);
    best = rate > best ? rate : best;
  }
  return best;
}

typedef struct {
  moe_isa isa;
  int64_t floats;
  float *memory;
} update_args;

static void update(void *context, int64_t task, int thread) {
  (void)thread;
  const update_args *g = context;
  update_table[g->isa][MOE_FLOAT32](g->memory + task * g->floats, g->floats);
}

double moe_measure_update(moe_execution ex, void *memory, size_t bytes, int rounds) {
  update_args g = {ex.isa, (int64_t)(bytes / sizeof(float)) / ex.threads, memory};
  double best = 0;
  for (int r = 0; r < rounds; r++) {
    const double start = now();
    moe_parallel_for(ex.threads, ex.threads, update, &g);
    const double rate = 2 * (double)(g.floats * ex.threads) * sizeof(float) / (now() - start);
    best = rate > best ? rate : best;
  }
  return best;
}
