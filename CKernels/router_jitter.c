/* Multiplicative noise on the router's input: tokens are tasks. It has no vector form, because products of 64-bit integers
 * take its time, and AVX2 has no such product. */
#include "noise.h"

typedef struct {
  const float *x;
  int64_t D;
  uint64_t seed, first_token;
  float epsilon;
  bool add;
  float *out;
} jitter_args;

static void jitter_token(void *context, int64_t t, int thread) {
  (void)thread;
  const jitter_args *g = context;
  const float *x = g->x + t * g->D;
  float *out = g->out + t * g->D;
  for (int64_t d = 0; d < g->D; d++) {
    const float v = 2 * noise_uniform(g->seed, g->first_token + (uint64_t)t, -1 - d) - 1;
    const float jittered = x[d] * (1 + g->epsilon * v);
    out[d] = g->add ? out[d] + jittered : jittered;
  }
}

void moe_router_jitter(moe_execution ex, const float *x, int64_t T, int64_t D, uint64_t seed,
                       uint64_t first_token, float epsilon, bool add, float *out) {
  jitter_args g = {x, D, seed, first_token, epsilon, add, out};
  moe_parallel_for(ex.threads, T, jitter_token, &g);
}
