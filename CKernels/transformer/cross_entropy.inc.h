/* Cross-entropy of a row of logits, and its gradient in their place.
 *
 * SHAPES       logits [V] · target → loss, dlogits [V]
 * DEFINITION   loss = ln Σ e^l − l[target]; dlogits = scale · (softmax(l) − 1[target])
 * REGULARITIES V is a multiple of 16; a row stays in L1 between its three passes.
 * EXAMPLE      T = 4096 bytes, V = 256: 4 MB, about 1 ms. */

#include "../math.inc.h"

static float KERNEL(cross_entropy_row)(float *logits, int64_t V, int64_t target, float scale) {
  vf most = vset1(-INFINITY);
  for (int64_t v = 0; v < V; v += W) most = vmax(most, vload(logits + v));
  const float own = logits[target];
  const float loss = softmax(logits, V, vreduce_max(most), logits) - own;
  for (int64_t v = 0; v < V; v += W) vstore(logits + v, vmul(vload(logits + v), vset1(scale)));
  logits[target] -= scale;
  return loss;
}
