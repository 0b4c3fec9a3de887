/* Packing of weights into panels, done once a layer: plain loops, one layout for every instruction set.
 *
 * SHAPES       W [N,K] row-major → panels [⌈N/16⌉][K'][16] floats or [⌈N/16⌉][K'/2][16][2] bfloat16
 * DEFINITION   panel[p][k][n] = W[16p + n][k], zero outside W
 * REGULARITIES A panel is what a tile reads from front to back, so memory streams; both members of a bfloat16
 *              pair lie together because one instruction multiplies them.
 * EXAMPLE      W [3584,1024] in bfloat16: 224 panels of 32 KiB. */
#include "layout.h"
#include <string.h>

typedef struct {
  moe_dtype dtype;
  const float *W;
  int64_t N, K, stride;
  char *dst;
  int is_finite; /* set to 0 by any panel */
} pack_args;

static uint16_t bf16_from_float(float v) {
  uint32_t u;
  memcpy(&u, &v, 4);
  if (v != v) return (uint16_t)(u >> 16 | 0x40);
  return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

static void pack_panel(void *context, int64_t panel, int thread) {
  (void)thread;
  pack_args *g = context;
  const size_t bytes = panel_bytes(g->dtype, g->K);
  char *dst = g->dst + (size_t)(panel * g->stride) * bytes;
  const int64_t columns = min64(MOE_PANEL, g->N - panel * MOE_PANEL);
  memset(dst, 0, bytes);
  /* Magnitudes as integers are in the order of the floats, with infinity and NaN above all of them. */
  uint32_t largest = 0;
  for (int64_t n = 0; n < columns; n++) {
    const float *row = g->W + (panel * MOE_PANEL + n) * g->K;
    if (g->dtype == MOE_F32) {
      float *to = (float *)dst + n;
      for (int64_t k = 0; k < g->K; k++) {
        uint32_t u;
        memcpy(&u, row + k, 4);
        u &= 0x7fffffff;
        largest = u > largest ? u : largest;
        to[k * MOE_PANEL] = row[k];
      }
    } else {
      uint16_t *to = (uint16_t *)dst + n * 2;
      for (int64_t k = 0; k < g->K; k++) {
        const uint16_t v = bf16_from_float(row[k]);
        const uint32_t u = (uint32_t)(v & 0x7fff) << 16;
        largest = u > largest ? u : largest;
        to[k / 2 * MOE_PANEL * 2 + k % 2] = v;
      }
    }
  }
  if (largest >= 0x7f800000) __atomic_store_n(&g->is_finite, 0, __ATOMIC_RELAXED);
}

size_t moe_panels_bytes(moe_dtype dtype, int64_t panels, int64_t K) {
  return (size_t)panels * panel_bytes(dtype, K);
}

bool moe_pack_panels(moe_execution ex, moe_dtype dtype, const float *W, int64_t N, int64_t K, void *dst,
                     int64_t stride) {
  pack_args g = {dtype, W, N, K, stride, dst, 1};
  moe_parallel_for(ex.threads, ceil_div(N, MOE_PANEL), pack_panel, &g);
  return g.is_finite;
}

/* ---- fp32 panels to bfloat16 panels --------------------------------------------------------------------- */

typedef struct {
  const float *src;
  uint16_t *dst;
  int64_t values; /* of a panel */
} narrow_args;

static void narrow_panel(void *context, int64_t panel, int thread) {
  (void)thread;
  const narrow_args *g = context;
  const float *from = g->src + panel * g->values;
  uint16_t *to = g->dst + panel * g->values;
  for (int64_t k = 0; k < g->values; k += 2 * MOE_PANEL)
    for (int n = 0; n < MOE_PANEL; n++) {
      to[k + 2 * n] = bf16_from_float(from[k + n]);
      to[k + 2 * n + 1] = bf16_from_float(from[k + MOE_PANEL + n]);
    }
}

void moe_narrow_panels(moe_execution ex, const float *src, int64_t panels, int64_t K, void *dst) {
  narrow_args g = {src, dst, round_up(K, MOE_K_MULTIPLE) * MOE_PANEL};
  moe_parallel_for(ex.threads, panels, narrow_panel, &g);
}
