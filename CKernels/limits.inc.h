/* What the machine can do at most: multiply-adds from registers alone, and bytes read.
 *
 * DEFINITION   flops: sum[i] = sum[i]·x + y for SPIN_SUMS independent vectors, as many as hide the latency and fit
 *              the registers beside x and y
 *              read:  the largest float of a range of memory, from four vectors a step
 *              update: every float times one, in place */

#define spin_flops SUFFIX(spin_flops)
static float spin_flops(bool bf16, int64_t iterations) {
  /* Read at run time: a chain whose values the compiler can work out is not computed. */
  const volatile float factor = 0.999f, term = 1e-3f;
  vf sum[SPIN_SUMS], x = vset1(factor), y = vset1(term);
  UNROLL for (int i = 0; i < SPIN_SUMS; i++) sum[i] = vset1((float)i);
  if (bf16)
    for (int64_t n = 0; n < iterations; n++)
      for (int i = 0; i < SPIN_SUMS; i++) sum[i] = vpair(sum[i], x, y);
  else
    for (int64_t n = 0; n < iterations; n++)
      for (int i = 0; i < SPIN_SUMS; i++) sum[i] = vfma(sum[i], x, y);
  float all = 0;
  UNROLL for (int i = 0; i < SPIN_SUMS; i++) all += vreduce_add(sum[i]);
  return all;
}

#define sweep_memory SUFFIX(sweep_memory)
static float sweep_memory(const float *p, int64_t count) {
  vf most[4];
  UNROLL for (int i = 0; i < 4; i++) most[i] = vset1(0);
  for (int64_t k = 0; k + 4 * W <= count; k += 4 * W)
    UNROLL for (int i = 0; i < 4; i++) most[i] = vmax(vload(p + k + i * W), most[i]);
  return vreduce_max(vmax(vmax(most[0], most[1]), vmax(most[2], most[3])));
}

#define update_memory SUFFIX(update_memory)
static void update_memory(float *p, int64_t count) {
  const volatile float one = 1;
  const vf factor = vset1(one);
  for (int64_t k = 0; k + 4 * W <= count; k += 4 * W)
    UNROLL for (int i = 0; i < 4; i++) vstore(p + k + i * W, vmul(vload(p + k + i * W), factor));
}

/* Floats of all sums together. */
#define spin_floats SUFFIX(spin_floats)
static int64_t spin_floats(void) { return SPIN_SUMS * W; }
