/* The limits a kernel is measured against. */
#include "layout.h"
#include <time.h>

#define TEMPLATE "../limits.inc.h"
#include "isa/foreach.h"

typedef float (*spin_fn)(bool, int64_t);
typedef float (*sweep_fn)(const float *, int64_t);
typedef void (*update_fn)(float *, int64_t);
typedef int64_t (*width_fn)(void);
static const spin_fn spin_table[MOE_ISA_COUNT] = ISA_TABLE(spin_flops);
static const sweep_fn sweep_table[MOE_ISA_COUNT] = ISA_TABLE(sweep_memory);
static const update_fn update_table[MOE_ISA_COUNT] = ISA_TABLE(update_memory);
static const width_fn width_table[MOE_ISA_COUNT] = ISA_TABLE(spin_floats);

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

typedef struct {
  moe_execution ex;
  bool bf16;
  int64_t iterations, floats;
  const float *memory;
  volatile float sink;
} limit_args;

static void spin(void *context, int64_t task, int thread) {
  (void)task, (void)thread;
  limit_args *g = context;
  const float result = spin_table[g->ex.isa](g->bf16, g->iterations);
  if (result == 12345) g->sink = result;
}

static void sweep(void *context, int64_t task, int thread) {
  (void)thread;
  limit_args *g = context;
  const float result = sweep_table[g->ex.isa](g->memory + task * g->floats, g->floats);
  if (result == 12345) g->sink = result;
}

double moe_measure_flops(moe_execution ex, moe_dtype dtype, double seconds) {
  limit_args g = {.ex = ex, .bf16 = dtype == MOE_BF16, .iterations = 100000};
  const double each = 2.0 * (double)width_table[ex.isa]() * (g.bf16 ? 2 : 1) * ex.threads;
  double best = 0;
  const double end = now() + seconds;
  do {
    const double start = now();
    moe_parallel_for(ex.threads, ex.threads, spin, &g);
    const double took = now() - start;
    best = each * (double)g.iterations / took > best ? each * (double)g.iterations / took : best;
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
  update_table[g->isa](g->memory + task * g->floats, g->floats);
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
