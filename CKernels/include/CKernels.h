/* The kernels of swift-moe: the only public header of the C target.
 *
 * LETTERS  T tokens · E experts · K experts per token · D hidden size · F feed-forward size · M rows, one for
 *          each kept choice, ordered by expert. All matrices are row-major; the shape stands beside the pointer.
 * CONTRACT Arguments were checked by the Swift wrappers; a kernel trusts shapes and never allocates. Scratch is
 *          the caller's, 64-byte aligned, of the size the matching _bytes function says.
 * BITS     For one instruction set every output has the same bits for any number of threads: an output element
 *          is one chain of multiply-adds in the order of its sum, and what is summed over tokens is integers. */
#ifndef CKERNELS_H
#define CKERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- machines ------------------------------------------------------------------------------------------- */

typedef enum { MOE_SCALAR, MOE_AVX2, MOE_AVX512, MOE_AVX512BF16, MOE_ISA_COUNT } moe_isa;

/* Whether this CPU and operating system run the instruction set. */
bool moe_isa_supported(moe_isa isa);

/* How to compute: an instruction set and a number of threads, at least 1. */
typedef struct {
  moe_isa isa;
  int threads;
} moe_execution;

/* What OpenMP would use: OMP_NUM_THREADS, or the processors this process may run on. */
int moe_default_threads(void);

/* One task of `count`, on thread `thread` of the team. */
typedef void (*moe_task)(void *context, int64_t task, int thread);

/* Runs every task once on up to `threads` threads, each taking the next one when it is free. Returns when all
 * are done. Which thread runs a task is left open, so tasks must not depend on it for their results. */
void moe_parallel_for(int threads, int64_t count, moe_task task, void *context);

/* From now on, while the calling thread is in moe_parallel_for, it calls `poll` between its tasks, at most once in so
 * many nanoseconds: for exchanges that make progress only when somebody looks. NULL ends that. `poll` must not call
 * moe_parallel_for. */
void moe_set_poll(void (*poll)(void *context), void *context, int64_t interval);

/* The columns of a weight panel, and the multiple to which reduced dimensions are padded with zeros. */
enum { MOE_PANEL = 16, MOE_K_MULTIPLE = 32 };

typedef enum { MOE_F32, MOE_BF16 } moe_dtype;

/* ---- memory --------------------------------------------------------------------------------------------- */

/* At least `bytes` bytes on a cache line or better, not initialised; NULL where there are none. */
void *moe_allocate(size_t bytes);
void moe_free(void *memory);

/* ---- pack ----------------------------------------------------------------------------------------------- */

/* Bytes of `panels` packed panels over K. */
size_t moe_panels_bytes(moe_dtype dtype, int64_t panels, int64_t K);

/* Packs W [N,K] into ⌈N/16⌉ panels at dst, each [K'/1][16] floats or [K'/2][16][2] bfloat16 with K' = K
 * rounded up to 32; what lies beyond N or K is zero. `stride` is the distance in panels between consecutive
 * panels of this matrix, so that gate and up panels can alternate. bfloat16 rounds to nearest even.
 * Returns whether every packed value is finite. */
bool moe_pack_panels(moe_execution ex, moe_dtype dtype, const float *W, int64_t N, int64_t K, void *dst,
                     int64_t stride);

/* The fp32 panels over K at src as bfloat16 panels at dst, rounded to nearest even: what moe_pack_panels makes of the
 * same matrices. */
void moe_narrow_panels(moe_execution ex, const float *src, int64_t panels, int64_t K, void *dst);

/* ---- router --------------------------------------------------------------------------------------------- */

typedef enum {
  MOE_SOFTMAX,
  MOE_SIGMOID,
  MOE_SOFTMAX_OVER_SELECTED,
  MOE_SIGMOID_OF_SELECTED, /* selection on the logits */
  MOE_SPARSE_MIXER
} moe_scoring;
typedef enum { MOE_NORMALIZE_NONE, MOE_NORMALIZE_SUM_PLUS, MOE_NORMALIZE_SUM_AT_LEAST } moe_normalization;
typedef enum { MOE_GROUP_MAXIMUM, MOE_GROUP_TOP_TWO_SUM } moe_group_score;

typedef struct {
  moe_scoring scoring;
  moe_normalization normalization;
  float normalization_term; /* added to the sum, or the least sum */
  float scale;
  float jitter;                    /* of SparseMixer */
  int32_t groups, groups_selected; /* 0: no limit */
  moe_group_score group_score;
  float group_mask; /* what an expert outside the selected groups scores: 0 or −∞ */
  bool is_sampled;  /* SparseMixer in training: experts are drawn by the noise of the seed */
  uint64_t seed;
  uint64_t first_token; /* what the noise calls token 0 */
} moe_router_rule;

/* Where the router writes; NULL where something is not wanted, expert_ids and weights excepted. */
typedef struct {
  int32_t *expert_ids;       /* [T,K] best first, ties to the lower index; −1 for a masked token */
  float *weights;            /* [T,K] */
  float *margins;            /* [T] last chosen selection score − best not chosen */
  float *logsumexp;          /* [T] */
  float *logits;             /* [T,E] biased, what the backward pass starts from */
  float *scores;             /* [T,E] softmax over all experts, or sigmoids */
  int64_t *counts;           /* [E] choices */
  int64_t *first_counts;     /* [E] first choices */
  int64_t *probability_sums; /* [E] Σ probability in units of 2^−30 */
} moe_router_output;

size_t moe_router_scratch_bytes(moe_execution ex, int64_t D, int64_t E);

/* Routes T tokens x [T,D] with weights packed as fp32 panels of [E,D]. bias [E] is added to the logits,
 * selection_bias [E] to the scores for selection only, mask [T] holds 0 for tokens to leave out; each may be
 * NULL. Returns −1, or the first token with a NaN or +∞ logit, or with none above −∞; the outputs then have
 * no meaning. */
int64_t moe_router(moe_execution ex, const moe_router_rule *rule, const float *x, int64_t T, int64_t D,
                   const float *panels, const float *bias, const float *selection_bias, const uint8_t *mask,
                   int64_t E, int64_t K, const moe_router_output *out, void *scratch);

/* The same from logits [T,E] instead of tokens. */
int64_t moe_router_from_logits(moe_execution ex, const moe_router_rule *rule, const float *logits, int64_t T,
                               const float *selection_bias, const uint8_t *mask, int64_t E, int64_t K,
                               const moe_router_output *out, void *scratch);

/* The router's copy of its input in training: out [T,D] = x·(1 + epsilon·v), or out += that where `add` is set, with v
 * uniform in (−1,1), drawn by (seed, first_token + t, d). */
void moe_router_jitter(moe_execution ex, const float *x, int64_t T, int64_t D, uint64_t seed,
                       uint64_t first_token, float epsilon, bool add, float *out);

/* Tokens in groups: token t belongs to group (t / group_tokens) mod groups. A batch is one group, sequences of S are
 * groups of S tokens, positions in sequences of S are S groups of one token. */
typedef struct {
  int64_t *tokens;           /* [groups] tokens not masked */
  int64_t *counts;           /* [groups,E] choices */
  int64_t *first_counts;     /* [groups,E] first choices */
  int64_t *probability_sums; /* [groups,E] Σ probability in units of 2^−30 */
} moe_router_statistics;

size_t moe_router_statistics_scratch_bytes(moe_execution ex, int64_t E);

/* The sums of each group, from recorded logits [T,E] and expert_ids [T,K]. The probabilities are the router's own to
 * the bit, so the sums of several groups are those of their union. */
void moe_router_statistics_of(moe_execution ex, const moe_router_rule *rule, const float *logits,
                              const int32_t *expert_ids, int64_t T, int64_t E, int64_t K,
                              int64_t group_tokens, int64_t groups, const moe_router_statistics *out,
                              void *scratch);

/* dL/dP [groups,E] of the probability a loss counts: softmax over all experts, or sigmoids over their sum. */
typedef struct {
  const float *values;
  int64_t group_tokens, groups;
} moe_probability_gradients;

/* dL/dlogits [T,E] from dL/dweights [T,K], with the chosen experts held fixed. A dropped choice has a weight gradient
 * of 0 but was part of the sum its token's weights were divided by. To each token is added what its losses depend on:
 * the sum of `loss_count` gradients of probabilities, and logsumexp_gradient times logsumexp, which is
 * dL/dlogsumexp (2c/T for a z-loss c·mean). Masked tokens get zeros.
 * A rule that samples has SparseMixer's estimator: the gradient of a weight goes to the logits by the Jacobian of the
 * softmax over those that share, and passes over the factor that the weight was multiplied by. */
void moe_router_backward(moe_execution ex, const moe_router_rule *rule, const float *logits,
                         const int32_t *expert_ids, const float *weight_gradients, int64_t T, int64_t E,
                         int64_t K, const moe_probability_gradients *losses, int64_t loss_count,
                         float logsumexp_gradient, float *logit_gradients, void *scratch);

/* ---- permute -------------------------------------------------------------------------------------------- */

typedef enum { MOE_TOKEN_THEN_CHOICE, MOE_CHOICE_THEN_TOKEN, MOE_BY_WEIGHT } moe_priority;

typedef struct {
  int64_t *offsets;    /* [E+1] first row of each expert */
  int32_t *row_token;  /* [T·K] the token of each row */
  float *row_weight;   /* [T·K] its weight; may be NULL */
  int32_t *choice_row; /* [T,K] the row of each choice, −1 where dropped or masked */
  int32_t *slots;   /* [T,K] its position within expert and scope, −1 where dropped or masked; may be NULL */
  int64_t *dropped; /* [E] choices over capacity; may be NULL */
} moe_permutation;

size_t moe_permute_scratch_bytes(int64_t T, int64_t K, int64_t E, int64_t scope);

/* Orders the choices expert_ids [T,K] by expert: a stable counting sort. With capacity ≥ 0 at most that many
 * choices of each `scope` consecutive tokens keep a row of an expert, claimed in the order of `priority`; the
 * weights [T,K] of the others become 0. Returns M, the rows kept. */
int64_t moe_permute(moe_execution ex, const int32_t *expert_ids, float *weights, int64_t T, int64_t K,
                    int64_t E, int64_t capacity, moe_priority priority, int64_t scope,
                    const moe_permutation *out, void *scratch);

/* Bytes of M rows of width K packed as row tiles for E groups. */
size_t moe_rows_bytes(moe_isa isa, moe_dtype dtype, int64_t M, int64_t E, int64_t K);

/* Gathers row row_token[m] of x [·,K] into row tiles ordered by expert, each times row_weight[m] where that
 * is not NULL. row_token may be NULL for the identity. */
void moe_gather_rows(moe_execution ex, moe_dtype dtype, const float *x, int64_t K, int64_t E,
                     const int64_t *offsets, const int32_t *row_token, const float *row_weight, void *tiles);

/* ---- grouped GEMM --------------------------------------------------------------------------------------- */

typedef enum {
  MOE_RELU,
  MOE_GELU,
  MOE_GELU_TANH,
  MOE_SWIGLU,
  MOE_GEGLU,
  MOE_GEGLU_TANH,
  MOE_CLAMPED_SWIGLU
} moe_activation;

size_t moe_grouped_gemm_scratch_bytes(moe_execution ex, int64_t E);

/* First product of the experts: h = act(rows·Wᵀ + bias) for each group, written as row tiles for the second.
 * panels: for each expert F'/16 panels of the up projection, or pairs (gate, up) where the activation is
 * gated, F' = F rounded up to 32; biases are [E,F'] or NULL. */
void moe_grouped_gemm_up(moe_execution ex, moe_dtype dtype, const void *row_tiles, int64_t E,
                         const int64_t *offsets, int64_t D, int64_t F, const void *panels,
                         const float *gate_bias, const float *up_bias, moe_activation activation, float alpha,
                         float limit, void *hidden_tiles, void *scratch);

/* The same, which also records gate and up before the activation, biases included, as fp32 row tiles over the columns
 * of the panels: what the backward pass starts from. */
void moe_grouped_gemm_up_recorded(moe_execution ex, moe_dtype dtype, const void *row_tiles, int64_t E,
                                  const int64_t *offsets, int64_t D, int64_t F, const void *panels,
                                  const float *gate_bias, const float *up_bias, moe_activation activation,
                                  float alpha, float limit, float *preactivation_tiles, void *hidden_tiles,
                                  void *scratch);

/* Second product: y [M,D] = hidden·Wᵀ + bias for each group. panels: ⌈D/16⌉ an expert; bias [E,D'] with D'
 * the columns of those panels, or NULL. */
void moe_grouped_gemm_down(moe_execution ex, moe_dtype dtype, const void *hidden_tiles, int64_t E,
                           const int64_t *offsets, int64_t F, int64_t D, const void *panels,
                           const float *bias, float *y, void *scratch);

/* ---- grouped GEMM, backward ------------------------------------------------------------------------------ */

/* Back through the second product and the activation: from dL/dy as row tiles over D to dL/d(gate, up) as row tiles
 * over the columns of the first product's panels. panels: the down projection's, as in the forward; a task transposes
 * what it reads of them. preactivation_tiles: what moe_grouped_gemm_up_recorded recorded, fp32. */
void moe_grouped_gemm_down_backward(moe_execution ex, moe_dtype dtype, const void *dy_tiles, int64_t E,
                                    const int64_t *offsets, int64_t D, int64_t F, const void *panels,
                                    moe_activation activation, float alpha, float limit,
                                    const float *preactivation_tiles, void *preactivation_gradient_tiles,
                                    void *scratch);

/* Back through a product: y [M,K] = dz·W for each group, or y += dz·W, from dz as row tiles over 16·panels columns.
 * weights: the product's own, `panels` panels over K an expert. */
void moe_grouped_gemm_backward(moe_execution ex, moe_dtype dtype, const void *gradient_tiles, int64_t panels,
                               int64_t E, const int64_t *offsets, int64_t K, const void *weights, bool add,
                               float *y, void *scratch);

size_t moe_grouped_gemm_weights_scratch_bytes(moe_isa isa, moe_dtype dtype, int64_t M, int64_t E, int64_t K,
                                              int64_t panels);

/* Weight gradients in the layout of the weights' own fp32 panels: for each group
 * panel[n/16][k][n%16] += Σ_m rows[m][k]·dz[m][n], one chain over the rows in order, from what is there on.
 * included: [E], the groups that are added; NULL for all. */
void moe_grouped_gemm_weights(moe_execution ex, moe_dtype dtype, const void *row_tiles, int64_t K,
                              const void *gradient_tiles, int64_t panels, int64_t E, const int64_t *offsets,
                              const bool *included, float *weight_gradients, void *scratch);

/* Bias gradients: for each group sums[part] [E, 16·panels/parts] += Σ_m dz[m], rows in order, from what is there on.
 * parts: the matrices whose panels alternate, 2 for gate and up; a part whose sums are NULL is left out. */
void moe_group_sums(moe_execution ex, moe_dtype dtype, const void *gradient_tiles, int64_t panels,
                    int64_t parts, int64_t E, const int64_t *offsets, const bool *included,
                    float *const *sums);

/* ---- combine -------------------------------------------------------------------------------------------- */

/* out [T,D] = a_t · Σ_k weights[t,k] · y[choice_row[t,k]] + b_t · branch[t], in the order of k; choices with
 * row −1 are left out. weights NULL means 1; branch NULL means none. gates [T,gate_columns]: NULL means a = b
 * = 1, one column is b, two columns are a, b. */
void moe_combine(moe_execution ex, const float *y, const int32_t *choice_row, const float *weights, int64_t T,
                 int64_t K, int64_t D, const float *branch, const float *gates, int64_t gate_columns,
                 float *out);

/* dL/dweights [T,K] = dout[t]·y[choice_row[t,k]], 0 where the row is −1; y [M,D]. */
void moe_combine_backward(moe_execution ex, const float *dout, const float *y, const int32_t *choice_row,
                          int64_t T, int64_t K, int64_t D, float *weight_gradients);

/* ---- what a transformer has around its layers ------------------------------------------------------------- */

/* sum [T,D] = x + addend (NULL for none), inverse [T] = 1/√(mean of sum² + ε), y = sum · inverse · gain [D]. */
void moe_rms_norm(moe_execution ex, const float *x, const float *addend, const float *gain, int64_t T,
                  int64_t D, float epsilon, float *sum, float *y, float *inverse);

/* From dL/dy and x, the sum above, adds to dx [T,D] and to dgain [D], tokens in order; NULL leaves one of them out. */
void moe_rms_norm_backward(moe_execution ex, const float *dy, const float *x, const float *gain,
                           const float *inverse, int64_t T, int64_t D, float *dx, float *dgain);

/* Turns the heads of x [T, stride] in place by the angles of positions first_position + t % S: cosines and sines
 * [positions, head_size/2]; `back` turns the other way, which is also the gradient's. */
void moe_rotate(moe_execution ex, float *x, int64_t T, int64_t stride, int64_t S, int64_t first_position,
                int64_t heads, int64_t head_size, const float *cosines, const float *sines, bool back);

/* Row r of scores [rows, width], width a multiple of 16, becomes the softmax of scale·scores over its first
 * first + r + 1 columns, 0 beyond. On the calling thread: a step of a task. */
void moe_causal_softmax(moe_isa isa, float *scores, int64_t rows, int64_t first, int64_t width, float scale);

/* dp [rows, width] becomes the gradient of the scores from that of their softmax p, rows numbered likewise. */
void moe_causal_softmax_backward(moe_isa isa, const float *p, float *dp, int64_t rows, int64_t first,
                                 int64_t width, float scale);

/* losses [T] = ln Σ exp(logits) − logits[target]; logits [T,V] become scale · (softmax − 1[target]). V is a multiple
 * of 16. */
void moe_cross_entropy(moe_execution ex, float *logits, const uint8_t *targets, int64_t T, int64_t V,
                       float scale, float *losses);

/* ---- optimizer ------------------------------------------------------------------------------------------ */

/* One step of AdamW (Loshchilov and Hutter 2019, Algorithm 2), with what is the same for all elements worked out. */
typedef struct {
  float gradient_scale;    /* what clipping leaves of g */
  float beta1, beta1_rest; /* β₁, 1 − β₁ */
  float beta2, beta2_rest; /* β₂, 1 − β₂ */
  float mean_step;         /* learning rate over 1 − β₁ᵗ */
  float variance_factor;   /* 1 over 1 − β₂ᵗ */
  float epsilon;           /* > 0 */
  float keep;              /* 1 − learning rate · weight decay */
} moe_adamw_rule;

/* values, mean and variance [count] after a step down gradient [count]; an element of zeros stays zero. */
void moe_adamw(moe_execution ex, const moe_adamw_rule *rule, const float *gradient, int64_t count,
               float *values, float *mean, float *variance);

/* One step of SGD with momentum (Sutskever et al. 2013) and decoupled weight decay. */
typedef struct {
  float gradient_scale; /* what clipping leaves of g */
  float momentum;       /* μ */
  float step;           /* learning rate */
  float keep;           /* 1 − learning rate · weight decay */
  bool nesterov;
} moe_sgd_rule;

/* values and velocity [count] after a step down gradient [count]; velocity is NULL where μ is 0. */
void moe_sgd(moe_execution ex, const moe_sgd_rule *rule, const float *gradient, int64_t count, float *values,
             float *velocity);

/* ---- limits --------------------------------------------------------------------------------------------- */

/* Multiply-add rate in FLOP/s that registers alone allow, measured over about `seconds`. */
double moe_measure_flops(moe_execution ex, moe_dtype dtype, double seconds);

/* Rate in bytes/s at which the threads read `bytes` bytes at `memory`, best of `rounds`. */
double moe_measure_read(moe_execution ex, const void *memory, size_t bytes, int rounds);

/* The same where every byte is read and written back, each counted. The memory holds finite floats and keeps them. */
double moe_measure_update(moe_execution ex, void *memory, size_t bytes, int rounds);

#endif
