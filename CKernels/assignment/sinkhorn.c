/* Sinkhorn's plan: tokens choose by a table whose rows and columns have equal sums.
 *
 * SHAPES       logits [T,E] → expert_ids [T,K]
 * DEFINITION   P[t][e] = e^l[t][e]; until Σ|columns − before|/E ≤ 10⁻⁴: rows[t] = 1/T/(Σ_e columns[e]·P[t][e] + 10⁻⁸);
 *              columns[e] = 1/E/(Σ_t rows[t]·P[t][e] + 10⁻⁸). Each token takes the K largest columns[e]·P[t][e]·rows[t]
 * REGULARITIES One thread in double precision: the sums over tokens have one order. The published iteration has no limit
 *              and for some logits no end; ours stops after SINKHORN_ROUNDS and takes the plan as it is then.
 * EXAMPLE      Megatron-Core: T 4096, E 8, K 1, 4 to 12 rounds. */
#include "../layout.h"
#include <math.h>

enum { SINKHORN_ROUNDS = 1000 };

size_t moe_sinkhorn_scratch_bytes(int64_t T, int64_t E) {
  return align_line((size_t)(T * E + T + 2 * E) * sizeof(double));
}

int64_t moe_sinkhorn(const float *logits, const uint8_t *mask, int64_t T, int64_t E, int64_t K,
                     int32_t *expert_ids, void *scratch) {
  double *P = scratch, *rows = P + T * E, *columns = rows + T, *sums = columns + E;
  for (int64_t i = 0; i < T * E; i++) P[i] = exp(logits[i]);
  for (int64_t e = 0; e < E; e++) columns[e] = 1;
  int64_t rounds = 0, real = 0;
  for (int64_t t = 0; t < T; t++) real += !mask || mask[t];
  for (double change = 1; change > 1e-4 && rounds < SINKHORN_ROUNDS && real > 0; rounds++) {
    for (int64_t e = 0; e < E; e++) sums[e] = 0;
    for (int64_t t = 0; t < T; t++) {
      if (mask && !mask[t]) continue;
      double sum = 0;
      for (int64_t e = 0; e < E; e++) sum += columns[e] * P[t * E + e];
      rows[t] = 1.0 / (double)real * (1 / (sum + 1e-8));
      for (int64_t e = 0; e < E; e++) sums[e] += rows[t] * P[t * E + e];
    }
    change = 0;
    for (int64_t e = 0; e < E; e++) {
      const double column = 1.0 / (double)E * (1 / (sums[e] + 1e-8));
      change += fabs(columns[e] - column) / (double)E;
      columns[e] = column;
    }
  }
  for (int64_t t = 0; t < T; t++)
    for (int64_t k = 0; k < K; k++) {
      int32_t best = -1;
      for (int32_t e = 0; (!mask || mask[t]) && e < E; e++) {
        bool chosen = false;
        for (int64_t j = 0; j < k; j++) chosen |= expert_ids[t * K + j] == e;
        if (chosen) continue;
        if (best < 0 || columns[e] * P[t * E + e] * rows[t] > columns[best] * P[t * E + best] * rows[t])
          best = e;
      }
      expert_ids[t * K + k] = best;
    }
  return rounds;
}
