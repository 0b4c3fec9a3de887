/* Multiplicative noise on the router's input: tokens are tasks. It has no vector form, because products of 64-bit integers
 * take its time, and AVX2 has no such product. */
#include "noise.h"

typedef struct {
  const float *x;
  int64_t D;
  moe_input_noise noise;
  bool add;
  float *out;
} jitter_args;

/* Returns the factor of element d of a token. */
static float factor_at(const moe_input_noise *noise, uint64_t token, int64_t d, int64_t D) {
  if (noise->dropout > 0 && noise_uniform(noise->seed, token, -1 - D - d) < noise->dropout) return 0;
  const float v = 2 * noise_uniform(noise->seed, token, -1 - d) - 1;
  const float jittered = 1 + noise->jitter * v;
  return noise->dropout > 0 ? jittered / (1 - noise->dropout) : jittered;
}

static void jitter_token(void *context, int64_t t, int thread) {
  (void)thread;
  const jitter_args *g = context;
  const float *x = g->x + t * g->D;
  float *out = g->out + t * g->D;
  for (int64_t d = 0; d < g->D; d++) {
    const float jittered = x[d] * factor_at(&g->noise, g->noise.first_token + (uint64_t)t, d, g->D);
    out[d] = g->add ? out[d] + jittered : jittered;
  }
}

void moe_router_jitter(moe_execution ex, const float *x, int64_t T, int64_t D, moe_input_noise noise,
                       bool add, float *out) {
  jitter_args g = {x, D, noise, add, out};
  moe_parallel_for(ex.threads, T, jitter_token, &g);
}
