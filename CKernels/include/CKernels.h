/* The kernels of swift-moe: the only public header of the C target.
 *
 * LETTERS  T tokens · E experts · K experts per token · D hidden size · F feed-forward size · M rows, one for each choice
 *          that is kept, ordered by expert. All matrices are row-major; the shape stands beside the pointer. A letter with
 *          a prime is padded: D', F' and K' to a multiple of MOE_K_MULTIPLE, E' to one of MOE_PANEL.
 * CONTRACT The Swift wrappers have checked the arguments. A kernel trusts shapes and never allocates. The caller owns the
 *          scratch, which is aligned to 64 bytes and has the size that the kernel's _bytes function returns.
 * BITS     For one instruction set every output has the same bits for any number of threads: an output element is one
 *          chain of multiply-adds in the order of its sum, and sums over tokens are sums of integers. */
#ifndef CKERNELS_H
#define CKERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- machines ------------------------------------------------------------------------------------------- */

typedef enum { MOE_SCALAR, MOE_AVX2, MOE_AVX512, MOE_AVX512BF16, MOE_ISA_COUNT } moe_isa;

/* Returns whether this CPU and operating system run the instruction set. */
bool moe_isa_supported(moe_isa isa);

/* How to compute: an instruction set and a number of threads, at least 1. */
typedef struct {
  moe_isa isa;
  int threads;
} moe_execution;

/* Returns the number of threads where none is given, 1 to 1024: the first number of OMP_NUM_THREADS, or the processors that
 * affinity and control groups leave to this process; never more than moe_thread_limit. */
int moe_default_threads(void);

/* Returns the least of OMP_THREAD_LIMIT, KMP_DEVICE_THREAD_LIMIT and KMP_ALL_THREADS, or INT_MAX. */
int moe_thread_limit(void);

/* Returns the processors that the control groups of the file `membership` (/proc/self/cgroup) leave to a process, by the
 * groups' folders below `mount` (/sys/fs/cgroup); INT_MAX where they limit nothing. */
int moe_processors_of_groups(const char *membership, const char *mount);

/* A variable of the environment whose value cannot be used: its name, its value (the first 127 bytes), and a phrase
 * for the values that can. */
typedef struct {
  const char *name, *value, *expected;
} moe_variable;

/* Finds the first variable of OpenMP that cannot be used, as the process was started with it; the OpenMP runtime no
 * longer sees it. OMP_NUM_THREADS counts only where the number of threads is read from it. */
bool moe_environment_fault(bool reads_thread_count, moe_variable *fault);

/* One task of `count`, on thread `thread` of the team. */
typedef void (*moe_task)(void *context, int64_t task, int thread);

/* Runs each of `count` tasks once on up to `threads` threads; a thread that is free takes the next task. Returns when all
 * tasks are done. A task's result must not depend on the thread that runs it. */
void moe_parallel_for(int threads, int64_t count, moe_task task, void *context);

/* Makes moe_parallel_for, when the calling thread is in it, call `poll` between this thread's tasks, at most once in
 * `interval` nanoseconds. Exchanges that progress only when they are polled need this. NULL ends it. `poll` must not call
 * moe_parallel_for. */
void moe_set_poll(void (*poll)(void *context), void *context, int64_t interval);

/* Columns of a panel of weights, and the multiple to which dimensions that are summed over are padded with zeros. */
enum { MOE_PANEL = 16, MOE_K_MULTIPLE = 32 };

/* ---- number formats ------------------------------------------------------------------------------------- */

/* How a panel stores weights, and how rows are rounded before they meet them. Sums are float32 in all formats. A format is
 * a header of formats/. */
typedef enum { MOE_FLOAT32, MOE_BFLOAT16, MOE_FORMAT_COUNT } moe_format;

/* ---- groups of rows, networks --------------------------------------------------------------------------- */

/* M rows in ragged groups: group e has the rows from offsets[e] to offsets[e+1] − 1. Groups may be empty. */
typedef struct {
  int64_t E;
  const int64_t *offsets; /* [E+1] */
} moe_groups;

typedef enum {
  MOE_RELU,
  MOE_GELU,
  MOE_GELU_TANH,
  MOE_SWIGLU,
  MOE_GEGLU,
  MOE_GEGLU_TANH,
  MOE_CLAMPED_SWIGLU
} moe_activation;

/* A set of networks of one shape, network e for the rows of group e: y = down·act(gate·x, up·x), with biases. Panels and
 * biases of network e follow those of network e − 1. */
typedef struct {
  int64_t D, F;
  moe_format format;
  moe_activation activation;
  float alpha, limit; /* of MOE_CLAMPED_SWIGLU */
  const void
      *up; /* F'/16 panels over D per network; pairs (gate, up) of panels where the activation is gated */
  const void *down;                 /* ⌈D/16⌉ panels over F per network */
  const float *gate_bias, *up_bias; /* [E,F'], each may be NULL */
  const float *down_bias;           /* [E, 16·⌈D/16⌉], or NULL */
} moe_networks;

/* M rows over `columns` values as row tiles (moe_gather_rows). */
typedef struct {
  const void *data;
  int64_t columns;
} moe_tiles;

/* ---- memory --------------------------------------------------------------------------------------------- */

/* Returns at least `bytes` bytes on a cache line or better, not initialised, or NULL where there is no memory. */
void *moe_allocate(size_t bytes);
void moe_free(void *memory);

/* ---- pack ----------------------------------------------------------------------------------------------- */

/* Returns the bytes of `panels` panels over K. */
size_t moe_panels_bytes(moe_format format, int64_t panels, int64_t K);

/* Packs W [N,K] into ⌈N/16⌉ panels at dst, as the format stores them: [K'][16] floats, or [K'/2][16][2] bfloat16 rounded to
 * nearest even. Columns beyond N and values beyond K are zero. `stride` is the distance in panels between consecutive
 * panels of this matrix, so that gate and up panels can alternate. Returns whether every packed value is finite. */
bool moe_pack_panels(moe_execution ex, moe_format format, const float *W, int64_t N, int64_t K, void *dst,
                     int64_t stride);

/* Writes the float32 panels over K at src as panels of `format` at dst, with the bits that moe_pack_panels gives for the
 * same matrices. */
void moe_narrow_panels(moe_execution ex, moe_format format, const float *src, int64_t panels, int64_t K,
                       void *dst);

/* ---- router --------------------------------------------------------------------------------------------- */

typedef enum {
  MOE_SOFTMAX,
  MOE_SIGMOID,
  MOE_SOFTMAX_OVER_SELECTED,
  MOE_SIGMOID_OF_SELECTED, /* selection on the logits */
  MOE_SPARSE_MIXER,
  MOE_SQRT_SOFTPLUS
} moe_scoring;
typedef enum {
  MOE_NORMALIZE_NONE,
  MOE_NORMALIZE_SUM_PLUS,
  MOE_NORMALIZE_SUM_AT_LEAST,
  MOE_NORMALIZE_NORM
} moe_normalization;
/* Noise on each logit in training: a normal number times the size, or a uniform number of [1 − size, 1 + size]. */
typedef enum { MOE_LOGITS_EXACT, MOE_LOGITS_NORMAL, MOE_LOGITS_UNIFORM } moe_logit_noise;
/* The second choice: the best expert left; the largest logit plus Gumbel noise among those left; the best one left with
 * probability weight/threshold, or where its weight is above the threshold. */
typedef enum { MOE_SECOND_BEST, MOE_SECOND_SAMPLED, MOE_SECOND_RANDOM, MOE_SECOND_ABOVE } moe_second_choice;

typedef struct {
  moe_scoring scoring;
  float logit_scale; /* multiplies the logits first */
  moe_logit_noise noise;
  float noise_size;
  float first_temperature; /* above 0: the first choice has the largest logit/temperature plus Gumbel noise */
  moe_second_choice second;
  float second_threshold;
  moe_normalization normalization;
  float normalization_term; /* added to the sum, or the least sum, or the power of the norm */
  bool normalizes_kept;     /* normalisation and scale follow dropping: the router writes scores as weights */
  float scale;
  float jitter;                    /* of SparseMixer */
  int32_t groups, groups_selected; /* 0: no limit */
  int32_t group_addends;           /* best scores that make a group's */
  float group_mask;                /* the score of an expert outside the selected groups: 0 or −∞ */
  bool is_sampled;                 /* SparseMixer in training: experts are drawn by the noise of the seed */
  uint64_t seed;
  uint64_t first_token; /* the number of token 0 for the noise */
} moe_router_rule;

/* The id of a choice whose expert e is not taken; the second call gives e back. */
#define MOE_NOT_TAKEN(e) (-2 - (e))

/* The tokens to route: x with the router's parameters, or logits. */
typedef struct {
  int64_t T, E, K;
  const float *logits; /* [T,E]; NULL: x·routerᵀ + bias */
  const float *x;      /* [T,D] */
  int64_t D;
  const float *panels;         /* of the router [E,D], float32 */
  const float *bias;           /* [E], added to the logits, or NULL */
  const float *selection_bias; /* [E], added to the scores for selection only, or NULL */
  const int32_t *given_ids;    /* [T,K] the experts, where something else chose them (−1: none), or NULL */
  const uint8_t *mask;         /* [T], 0 for a token to leave out, or NULL */
} moe_router_input;

/* The outputs of the router, each NULL where it is not wanted; expert_ids and weights are always wanted. */
typedef struct {
  int32_t *expert_ids;       /* [T,K] best first, ties to the lower index; −1 for a masked token, and
                                MOE_NOT_TAKEN(e) for a second expert e that the rule does not take */
  float *weights;            /* [T,K] */
  float *gates;              /* [T,K] the scores of the chosen before they are normalised */
  float *margins;            /* [T] selection score of the last choice − best score that was not chosen */
  float *logsumexp;          /* [T] */
  float *logits;             /* [T,E] with bias: the backward pass starts from them */
  float *scores;             /* [T,E] softmax over all experts, or sigmoids */
  int64_t *counts;           /* [E] choices */
  int64_t *first_counts;     /* [E] first choices */
  int64_t *probability_sums; /* [E] Σ probability in units of 2^−30 */
} moe_router_output;

size_t moe_router_scratch_bytes(moe_execution ex, int64_t E);

/* Routes T tokens. Returns −1, or the first token whose logits cannot be ranked: one of them is NaN or +∞, or none is above
 * −∞. The outputs then have no meaning. */
int64_t moe_router(moe_execution ex, const moe_router_rule *rule, const moe_router_input *input,
                   const moe_router_output *out, void *scratch);

/* Noise on the router's copy of its input. */
typedef struct {
  uint64_t seed, first_token;
  float jitter;  /* ε: elements are multiplied by 1 + ε·v with v uniform in (−1,1) */
  float dropout; /* the probability that an element becomes 0; the others are divided by 1 − dropout */
} moe_input_noise;

/* Writes the router's copy of its input in training, out [T,D], or adds it where `add` is set. The random numbers depend on
 * (seed, first_token + t, d) alone. */
void moe_router_jitter(moe_execution ex, const float *x, int64_t T, int64_t D, moe_input_noise noise,
                       bool add, float *out);

/* Tokens in groups: token t belongs to group (t / run_length) mod groups. A batch is one group; sequences of S tokens are
 * groups with runs of S tokens; positions in sequences of S tokens are S groups with runs of one token. */
typedef struct {
  int64_t run_length, groups;
} moe_token_grouping;

/* The routes of T tokens as the router recorded them. */
typedef struct {
  int64_t T, E, K;
  const float *logits;       /* [T,E] */
  const int32_t *expert_ids; /* [T,K] */
  const int32_t *choice_row; /* [T,K] −1 where dropped; read where the rule normalises after dropping */
} moe_routes;

typedef struct {
  int64_t *tokens;           /* [groups] tokens not masked */
  int64_t *counts;           /* [groups,E] choices */
  int64_t *first_counts;     /* [groups,E] first choices */
  int64_t *probability_sums; /* [groups,E] Σ probability in units of 2^−30 */
} moe_router_statistics;

size_t moe_router_statistics_scratch_bytes(moe_execution ex, int64_t E);

/* Writes the sums of each group. The probabilities have the bits of the router's own, so the sums of several groups are
 * those of their union. */
void moe_router_statistics_of(moe_execution ex, const moe_router_rule *rule, const moe_routes *routes,
                              moe_token_grouping grouping, const moe_router_statistics *out, void *scratch);

/* dL/dP of the probabilities P that a loss counts: the softmax over all experts, or the sigmoids over their sum. */
typedef struct {
  const float *values; /* [groups,E] */
  moe_token_grouping grouping;
} moe_probability_gradients;

/* The gradients of a router's losses. */
typedef struct {
  const moe_probability_gradients *probability; /* [count] */
  int64_t count;
  float logsumexp_gradient; /* dL/dlogsumexp over logsumexp: 2c/T for a z-loss c·mean(logsumexp²) */
} moe_router_losses;

size_t moe_router_backward_scratch_bytes(moe_execution ex, int64_t E);

/* Writes dL/dlogits [T,E] from dL/dweights [T,K] and the losses; the chosen experts are held fixed. A dropped choice has a
 * weight gradient of 0, but it was part of the sum that its token's weights were divided by. Masked tokens get zeros.
 * A rule that samples has SparseMixer's estimator: the gradient of a weight goes to the logits by the Jacobian of the
 * softmax over the experts that share, and passes over the factor that the weight was multiplied by. */
void moe_router_backward(moe_execution ex, const moe_router_rule *rule, const moe_routes *routes,
                         const float *weight_gradients, const moe_router_losses *losses,
                         float *logit_gradients, void *scratch);

/* ---- assignment ----------------------------------------------------------------------------------------- */

/* The softmax over the tokens of each scope: scores [T,E]; padding has 0. */
void moe_softmax_over_tokens(moe_execution ex, const float *logits, const uint8_t *mask, int64_t T, int64_t E,
                             int64_t scope, float *scores);

/* ---- permute -------------------------------------------------------------------------------------------- */

/* The order in which choices claim rows: by token, by choice, by the largest key; by choice in the order of the tokens'
 * first keys, the largest first; or one expert per token, the first of its choices that has a row left. */
typedef enum {
  MOE_TOKEN_THEN_CHOICE,
  MOE_CHOICE_THEN_TOKEN,
  MOE_BY_KEY,
  MOE_BATCH_PRIORITIZED,
  MOE_NEXT_CHOICE,
  MOE_TOKEN_THEN_ANY_CHOICE /* by token; choices that are not taken claim rows too, and leave them again */
} moe_priority;

/* A limit of the rows of an expert. */
typedef struct {
  int64_t capacity; /* rows of an expert per scope; negative: no limit */
  moe_priority priority;
  int64_t scope;     /* tokens of a scope, at least 1 */
  const float *keys; /* [T,K] of MOE_BY_KEY and MOE_BATCH_PRIORITIZED */
} moe_capacity_rule;

/* The outputs of expert choice: each token's experts, the largest weight first, −1 beyond them. */
typedef struct {
  int32_t *expert_ids; /* [T,E] */
  float *weights;      /* [T,E] */
  int32_t *slots;      /* [T,E] the rank of the token among those of the expert and scope */
  int64_t *counts;     /* [E] tokens */
} moe_expert_choices;

size_t moe_expert_choice_scratch_bytes(int64_t T, int64_t E, moe_capacity_rule rule);

/* Lets each expert take `capacity` tokens of each scope, those of the largest scores [T,E]; the rule's priority is not
 * read. `shares`: weights are divided by the number of experts that took the token. */
void moe_expert_choice(moe_execution ex, const float *scores, const uint8_t *mask, int64_t T, int64_t E,
                       moe_capacity_rule rule, bool shares, const moe_expert_choices *out, void *scratch);

size_t moe_sinkhorn_scratch_bytes(int64_t T, int64_t E);

/* Writes each token's K experts of Sinkhorn's plan, −1 for padding. Returns the number of rounds. */
int64_t moe_sinkhorn(const float *logits, const uint8_t *mask, int64_t T, int64_t E, int64_t K,
                     int32_t *expert_ids, void *scratch);

size_t moe_balanced_scratch_bytes(int64_t T, int64_t E);

/* Writes each token's expert [T] such that all experts have equally many, −1 for padding. */
void moe_balanced(const float *logits, const uint8_t *mask, int64_t T, int64_t E, int32_t *expert_ids,
                  void *scratch);

/* Writes a random key for each choice: keys [T,K], uniform in (0,1), which depend on (seed, first_token + t, k, expert)
 * alone. */
void moe_random_keys(moe_execution ex, const moe_router_rule *rule, const int32_t *expert_ids, int64_t T,
                     int64_t K, int64_t E, float *keys);

/* The outputs of the permutation. */
typedef struct {
  int64_t *offsets;    /* [E+1] first row of each expert */
  int32_t *row_token;  /* [T·K] the token of each row */
  float *row_weight;   /* [T·K] its weight; may be NULL */
  int32_t *choice_row; /* [T,K] the row of each choice, −1 where dropped or masked */
  int32_t *slots;   /* [T,K] its position within expert and scope, −1 where dropped or masked; may be NULL */
  int64_t *dropped; /* [E] choices over capacity, of MOE_NEXT_CHOICE those that were tried; may be NULL */
} moe_permutation;

size_t moe_permute_scratch_bytes(int64_t T, int64_t K, int64_t E, int64_t scope);

/* Orders the choices expert_ids [T,K] by expert: a stable counting sort. At most `capacity` choices of each scope of
 * consecutive tokens keep a row of an expert; they claim it in the order of `priority`, which is that of their rows too but
 * for MOE_BY_KEY, where rows follow token order. The weights [T,K] of the other
 * choices become 0. Returns M, the rows kept. */
int64_t moe_permute(moe_execution ex, const int32_t *expert_ids, float *weights, int64_t T, int64_t K,
                    int64_t E, moe_capacity_rule rule, const moe_permutation *out, void *scratch);

/* Normalises and scales the weights [T,K] of the choices that have a row, and writes them to row_weight [M] as well; the
 * weights of the other choices become 0. For rules that normalise after dropping. */
void moe_normalize_kept(moe_execution ex, const moe_router_rule *rule, int64_t T, int64_t K,
                        const int32_t *choice_row, float *weights, float *row_weight);

/* ---- gather --------------------------------------------------------------------------------------------- */

/* Returns the bytes of M rows over K values as row tiles of E groups. */
size_t moe_rows_bytes(moe_isa isa, moe_format format, int64_t M, int64_t E, int64_t K);

/* Gathers row row_token[m] of x [·,K], times row_weight[m], into the row tiles of the groups. row_token may be NULL for the
 * identity, row_weight for 1. */
void moe_gather_rows(moe_execution ex, moe_format format, moe_groups groups, const float *x, int64_t K,
                     const int32_t *row_token, const float *row_weight, void *tiles);

/* ---- grouped GEMM --------------------------------------------------------------------------------------- */

/* Bytes for each of the products below. */
size_t moe_grouped_gemm_scratch_bytes(moe_execution ex);

/* First product: h = act(gate·x + gate bias, up·x + up bias) for each row x, written as row tiles over F for the second
 * product. row_tiles are over D. Where preactivation_tiles is not NULL, the kernel also records gate and up before the
 * activation, biases included, as float32 row tiles over the columns of the panels: the backward pass starts from them. */
void moe_grouped_gemm_up(moe_execution ex, const moe_networks *networks, moe_groups groups,
                         const void *row_tiles, float *preactivation_tiles, void *hidden_tiles,
                         void *scratch);

/* Second product: y [M,D] = down·h + bias for each row h. */
void moe_grouped_gemm_down(moe_execution ex, const moe_networks *networks, moe_groups groups,
                           const void *hidden_tiles, float *y, void *scratch);

/* ---- grouped GEMM, backward ------------------------------------------------------------------------------ */

/* Back through the second product and the activation: from dL/dy as row tiles over D to dL/d(gate, up) as row tiles over
 * the columns of the first product's panels. preactivation_tiles: as moe_grouped_gemm_up recorded them. */
void moe_grouped_gemm_down_backward(moe_execution ex, const moe_networks *networks, moe_groups groups,
                                    const void *dy_tiles, const float *preactivation_tiles,
                                    void *preactivation_gradient_tiles, void *scratch);

/* Back through a product: y [M,K] = dz·W for each group, or y += dz·W. weights: the panels of the product itself, over K;
 * the gradients dz are over the columns of these panels. */
void moe_grouped_gemm_backward(moe_execution ex, moe_format format, moe_groups groups, moe_tiles gradients,
                               const void *weights, int64_t K, bool add, float *y, void *scratch);

/* Bytes for moe_grouped_gemm_weights: M rows over K, gradients over `columns`. */
size_t moe_grouped_gemm_weights_scratch_bytes(moe_isa isa, moe_format format, int64_t M, int64_t E, int64_t K,
                                              int64_t columns);

/* Adds weight gradients, in the layout of the weights' own float32 panels: for each group
 * panel[n/16][k][n%16] += Σ_m rows[m][k]·dz[m][n], one chain over the rows in order, which starts from what is there.
 * included: [E], the groups that are added; NULL for all. */
void moe_grouped_gemm_weights(moe_execution ex, moe_format format, moe_groups groups, const bool *included,
                              moe_tiles rows, moe_tiles gradients, float *weight_gradients, void *scratch);

/* Adds bias gradients: for each group sums[part] [E, columns/parts] += Σ_m dz[m], rows in order, starting from what is
 * there. parts: the matrices whose panels alternate, 2 for gate and up; a part whose sums are NULL is left out. The columns
 * of each part count in whole panels. */
void moe_group_sums(moe_execution ex, moe_format format, moe_groups groups, const bool *included,
                    moe_tiles gradients, int64_t parts, float *const *sums);

/* ---- combine -------------------------------------------------------------------------------------------- */

/* The choices of T tokens and the rows that experts made of them. */
typedef struct {
  int64_t T, K, D;
  const float *y;            /* [M,D] */
  const int32_t *choice_row; /* [T,K], −1 for a choice without a row */
  const float *weights;      /* [T,K]; NULL: 1 */
} moe_choices;

/* A dense branch beside the experts, and the gates of both. */
typedef struct {
  const float *rows;    /* [T,D]; NULL: none */
  const float *gates;   /* [T,gate_columns], b or (a, b) per token; NULL: a = b = 1 */
  int64_t gate_columns; /* 1 or 2 */
} moe_branch;

/* out [T,D] = a·Σ_k weights[t,k]·y[choice_row[t,k]] + b·branch[t], in the order of k. branch may be NULL. */
void moe_combine(moe_execution ex, const moe_choices *choices, const moe_branch *branch, float *out);

/* dL/dweights [T,K] = dout[t]·y[choice_row[t,k]], 0 for a choice without a row. */
void moe_combine_backward(moe_execution ex, const moe_choices *choices, const float *dout,
                          float *weight_gradients);

/* ---- a transformer around the layers (transformer/) ------------------------------------------------------- */

/* RMSNorm of T rows. */
typedef struct {
  int64_t T, D;
  const float *gain; /* [D] */
  float epsilon;
} moe_norm;

/* sum [T,D] = x + addend (NULL for none), inverse [T] = 1/√(mean of sum² + ε), y = sum · inverse · gain. */
void moe_rms_norm(moe_execution ex, moe_norm norm, const float *x, const float *addend, float *sum, float *y,
                  float *inverse);

/* From dL/dy and x, the sum above, adds to dx [T,D] and to dgain [D], tokens in order; NULL leaves one of them out. */
void moe_rms_norm_backward(moe_execution ex, moe_norm norm, const float *dy, const float *x,
                           const float *inverse, float *dx, float *dgain);

/* Rotary positions (Su et al. 2021): token t of rows of sequences of S tokens has position first_position + t % S. */
typedef struct {
  int64_t S, first_position, heads, head_size;
  const float *cosines, *sines; /* [positions, head_size/2] */
} moe_rotary;

/* Turns the heads of x [T, stride] in place by the angles of their positions. `back` turns the other way, which is also
 * the gradient's. */
void moe_rotate(moe_execution ex, const moe_rotary *rotary, float *x, int64_t T, int64_t stride, bool back);

/* Row r of scores [rows, width], width a multiple of MOE_PANEL, becomes the softmax of scale·scores over its first
 * first + r + 1 columns, 0 beyond. On the calling thread: a step of a task. */
void moe_causal_softmax(moe_isa isa, float *scores, int64_t rows, int64_t first, int64_t width, float scale);

/* dp [rows, width] becomes the gradient of the scores from that of their softmax p, rows numbered likewise. */
void moe_causal_softmax_backward(moe_isa isa, const float *p, float *dp, int64_t rows, int64_t first,
                                 int64_t width, float scale);

/* losses [T] = ln Σ exp(logits) − logits[target]; logits [T,V] become scale · (softmax − 1[target]). V is a multiple
 * of MOE_PANEL. */
void moe_cross_entropy(moe_execution ex, float *logits, const uint8_t *targets, int64_t T, int64_t V,
                       float scale, float *losses);

/* ---- optimizer ------------------------------------------------------------------------------------------ */

/* One step of AdamW (Loshchilov and Hutter 2019, Algorithm 2), with the factors that all elements share. */
typedef struct {
  float gradient_scale;    /* the factor of g after clipping */
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
  float gradient_scale; /* the factor of g after clipping */
  float momentum;       /* μ */
  float step;           /* learning rate */
  float keep;           /* 1 − learning rate · weight decay */
  bool nesterov;
} moe_sgd_rule;

/* values and velocity [count] after a step down gradient [count]; velocity is NULL where μ is 0. */
void moe_sgd(moe_execution ex, const moe_sgd_rule *rule, const float *gradient, int64_t count, float *values,
             float *velocity);

/* ---- limits --------------------------------------------------------------------------------------------- */

/* Rate in FLOP/s of multiply-adds from registers alone, measured over about `seconds` seconds. */
double moe_measure_flops(moe_execution ex, moe_format format, double seconds);

/* Rate in bytes/s at which the threads read `bytes` bytes at `memory`, best of `rounds`. */
double moe_measure_read(moe_execution ex, const void *memory, size_t bytes, int rounds);

/* Rate in bytes/s at which the threads read and write back `bytes` bytes at `memory`, each byte counted twice, best of
 * `rounds`. The memory holds finite floats and keeps them. */
double moe_measure_update(moe_execution ex, void *memory, size_t bytes, int rounds);

#endif
