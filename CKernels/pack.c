/* Packing of weights into panels, once per layer: plain loops, one layout for every instruction set.
 *
 * SHAPES       W [N,K] row-major → panels [⌈N/16⌉][K'][16] floats or [⌈N/16⌉][K'/2][16][2] bfloat16
 * DEFINITION   panel[p][k][n] = W[16p + n][k], zero outside W
 * REGULARITIES A tile reads a panel from front to back, so memory streams. Both members of a bfloat16 pair lie
 *              together because one instruction multiplies them.
 * EXAMPLE      W [3584,1024] in bfloat16: 224 panels of 32 KiB. */
#include "layout.h"
#include <string.h>

typedef struct {
  moe_format format;
  const float *W;
  int64_t N, K, stride;
  char *dst;
  int is_finite; /* any panel sets it to 0 */
} pack_args;

static void pack_panel(void *context, int64_t panel, int thread) {
  (void)thread;
  pack_args *g = context;
  const size_t bytes = panel_bytes(g->format, g->K);
  char *dst = g->dst + (size_t)(panel * g->stride) * bytes;
  const int64_t columns = min64(MOE_PANEL, g->N - panel * MOE_PANEL);
  memset(dst, 0, bytes);
  uint32_t largest = 0;
  for (int n = 0; n < columns; n++) {
    const float *values = g->W + (panel * MOE_PANEL + n) * g->K;
    const uint32_t magnitude = moe_panel_formats[g->format].pack_column(values, g->K, n, dst);
    largest = magnitude > largest ? magnitude : largest;
  }
  if (largest >= INFINITE_BITS) __atomic_store_n(&g->is_finite, 0, __ATOMIC_RELAXED);
}

size_t moe_panels_bytes(moe_format format, int64_t panels, int64_t K) {
  return (size_t)panels * panel_bytes(format, K);
}

bool moe_pack_panels(moe_execution ex, moe_format format, const float *W, int64_t N, int64_t K, void *dst,
                     int64_t stride) {
  pack_args g = {format, W, N, K, stride, dst, 1};
  moe_parallel_for(ex.threads, ceil_div(N, MOE_PANEL), pack_panel, &g);
  return g.is_finite;
}

/* ---- float32 panels to panels of another format --------------------------------------------------------- */

typedef struct {
  moe_format format;
  int64_t K;
  const char *src;
  char *dst;
} narrow_args;

static void narrow_panel(void *context, int64_t panel, int thread) {
  (void)thread;
  const narrow_args *g = context;
  const char *from = g->src + (size_t)panel * panel_bytes(MOE_FLOAT32, g->K);
  moe_panel_formats[g->format].narrow((const float *)from, round_up(g->K, MOE_K_MULTIPLE),
                                      g->dst + (size_t)panel * panel_bytes(g->format, g->K));
}

void moe_narrow_panels(moe_execution ex, moe_format format, const float *src, int64_t panels, int64_t K,
                       void *dst) {
  narrow_args g = {format, K, (const char *)src, dst};
  moe_parallel_for(ex.threads, panels, narrow_panel, &g);
}
