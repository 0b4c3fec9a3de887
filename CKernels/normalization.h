/* The divisor of a token's weights, of all choices or of those that are kept. */
#ifndef MOE_NORMALIZATION_H
#define MOE_NORMALIZATION_H

#include "include/CKernels.h"
#include <math.h>

/* Returns the divisor of the weights [K], 1 where they are not divided. Weights that all underflowed stay zero. */
static inline float weights_divisor(const moe_router_rule *rule, const float *weights, int64_t K) {
  float sum = 0;
  switch (rule->normalization) {
  case MOE_NORMALIZE_NONE:
    return 1;
  case MOE_NORMALIZE_NORM: {
    /* Over the largest, so that no power underflows. */
    float most = 0;
    for (int64_t k = 0; k < K; k++) most = weights[k] > most ? weights[k] : most;
    if (most == 0) return 1;
    for (int64_t k = 0; k < K; k++) sum += powf(weights[k] / most, rule->normalization_term);
    return most * powf(sum, 1 / rule->normalization_term);
  }
  case MOE_NORMALIZE_SUM_PLUS:
    for (int64_t k = 0; k < K; k++) sum += weights[k];
    sum += rule->normalization_term;
    break;
  case MOE_NORMALIZE_SUM_AT_LEAST:
    for (int64_t k = 0; k < K; k++) sum += weights[k];
    if (!(sum > rule->normalization_term)) sum = rule->normalization_term;
    break;
  }
  return sum == 0 ? 1 : sum;
}

#endif
