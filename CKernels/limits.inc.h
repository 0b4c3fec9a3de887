/* The limits of the machine: multiply-adds from registers alone, bytes read, and bytes updated.
 *
 * DEFINITION   flops: sum[i] += x·y for SPIN_SUMS independent vectors, as many as hide the latency and
 *              fit the registers beside x and y
 *              read:  the largest float of a range of memory, from four vectors per step
 *              update: every float times one, in place */

static float KERNEL(spin_flops)(int64_t iterations) {
  /* Read at run time: the compiler would work out a chain whose values it knows. */
  const volatile float factor = 0.999f, term = 1e-3f;
  vf sum[SPIN_SUMS], x = vset1(factor), y = vset1(term);
  UNROLL for (int i = 0; i < SPIN_SUMS; i++) sum[i] = vset1((float)i);
  for (int64_t n = 0; n < iterations; n++)
    for (int i = 0; i < SPIN_SUMS; i++)
      for (int part = 0; part < PARTS; part++) sum[i] = multiply_add(sum[i], x, y);
  float all = 0;
  UNROLL for (int i = 0; i < SPIN_SUMS; i++) all += vreduce_add(sum[i]);
  return all;
}

static float KERNEL(sweep_memory)(const float *p, int64_t count) {
  vf most[4];
  UNROLL for (int i = 0; i < 4; i++) most[i] = vset1(0);
  for (int64_t k = 0; k + 4 * W <= count; k += 4 * W)
    UNROLL for (int i = 0; i < 4; i++) most[i] = vmax(vload(p + k + i * W), most[i]);
  return vreduce_max(vmax(vmax(most[0], most[1]), vmax(most[2], most[3])));
}

static void KERNEL(update_memory)(float *p, int64_t count) {
  const volatile float one = 1;
  const vf factor = vset1(one);
  for (int64_t k = 0; k + 4 * W <= count; k += 4 * W)
    UNROLL for (int i = 0; i < 4; i++) vstore(p + k + i * W, vmul(vload(p + k + i * W), factor));
}

/* Products of one iteration of spin_flops. */
static int64_t KERNEL(spin_products)(void) { return SPIN_SUMS * W * STEP_K; }
