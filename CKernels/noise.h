/* Random numbers of a counter: a draw depends on its seed, its token and its place alone. So it is the same for any number
 * of threads and any split of the batch. */
#ifndef MOE_NOISE_H
#define MOE_NOISE_H

#include "include/CKernels.h"
#include <math.h>

/* The finaliser of SplitMix64 (Steele, Lea and Flood 2014). */
static inline uint64_t mix64(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

/* Returns (2n + 1)/2^24 with 23 random bits n: a number in (0,1) that float32 holds exactly. Places from 0 on are draws of
 * choices; negative places are columns of the router's input. */
static inline float noise_uniform(uint64_t seed, uint64_t token, int64_t place) {
  const uint64_t step = 0x9E3779B97F4A7C15u; /* 2^64 over the golden ratio, odd: SplitMix64's increment */
  const uint64_t row = mix64(seed + (token + 1) * step);
  return (float)((mix64(row + ((uint64_t)place + 1) * step) >> 41) * 2 + 1) * 0x1p-24f;
}

/* Returns −ln(−ln u), a draw of the Gumbel distribution. If each expert's logit gets such a draw added, the largest sum
 * falls on an expert with its softmax probability. */
static inline float noise_gumbel(uint64_t seed, uint64_t token, int64_t place) {
  return -logf(-logf(noise_uniform(seed, token, place)));
}

/* Returns a standard normal draw for expert e of E: Box and Muller's cosine, of the uniform numbers of choices 0 and 1, in
 * double precision and rounded once. */
static inline float noise_normal(uint64_t seed, uint64_t token, int64_t e, int64_t E) {
  const double radius = sqrt(-2 * log(noise_uniform(seed, token, e)));
  return (float)(radius * cos(2 * M_PI * noise_uniform(seed, token, E + 1 + e)));
}

/* Returns SparseMixer's factor of the weight of choice k of E where the choice is not the best expert: 1/3 with probability
 * 3/4, else 1 (Heun's third-order rule). */
static inline float heun_factor(const moe_router_rule *rule, int64_t token, int64_t k, int64_t E) {
  return noise_uniform(rule->seed, rule->first_token + (uint64_t)token, k * (E + 1) + E) > 0.75f ? 1
                                                                                                 : 1.0f / 3;
}

#endif
