/* Token permutation: from each token's experts to rows ordered by expert.
 *
 * SHAPES       expert_ids [T,K] → offsets [E+1], row_token [M], choice_row [T,K]
 * DEFINITION   for scope: for (token, choice) in order of priority: e = expert_ids[token][choice];
 *                slot = taken[scope][e]++; row = offsets[e] + rows of earlier scopes + slot if slot < capacity
 * REGULARITIES Integers throughout: a counting sort over fixed blocks of positions, so the result is the same
 *              for any number of threads. Without a capacity there is one scope and rows follow token order. Keys
 *              decide in one thread before the sort.
 * EXAMPLE      2 choices of 3 tokens for experts (0,1) (0,2) (1,0): rows of expert 0 are tokens 0, 1, 2, of
 *              expert 1 tokens 0, 2, of expert 2 token 1. */
#include "claims.h"
#include "layout.h"
#include "noise.h"
#include <string.h>

/* Positions of a task. */
enum { BLOCK = 8192 };

typedef struct {
  const int32_t *expert_ids;
  float *weights;
  int64_t T, K, E, capacity, scope, blocks_per_scope;
  moe_priority priority;
  const float *keys;
  const int32_t *token_order; /* [T] the tokens of each scope, the first to choose first; or NULL */
  int64_t *taken;             /* [block][E]: choices of the block, then of the scope's blocks before it */
  int64_t *base;              /* [scope][E]: first row */
  const moe_permutation *out;
} permute_args;

static int64_t scope_tokens(const permute_args *g, int64_t scope) {
  return min64(g->scope, g->T - scope * g->scope);
}

/* The flat [T,K] index of position `i` of a scope. */
static inline int64_t choice_at(const permute_args *g, int64_t scope, int64_t tokens, int64_t i) {
  if (g->priority != MOE_CHOICE_THEN_TOKEN && g->priority != MOE_BATCH_PRIORITIZED &&
      g->priority != MOE_NEXT_CHOICE)
    return scope * g->scope * g->K + i;
  const int64_t token = scope * g->scope + i % tokens;
  return (g->token_order ? g->token_order[token] : token) * g->K + i / tokens;
}

static void count_block(void *context, int64_t block, int thread) {
  (void)thread;
  const permute_args *g = context;
  const int64_t scope = block / g->blocks_per_scope, tokens = scope_tokens(g, scope);
  const int64_t first = block % g->blocks_per_scope * BLOCK, last = min64(first + BLOCK, tokens * g->K);
  int64_t *taken = g->taken + block * g->E;
  memset(taken, 0, (size_t)g->E * sizeof *taken);
  for (int64_t i = first; i < last; i++) {
    const int32_t e = g->expert_ids[choice_at(g, scope, tokens, i)];
    if (e >= 0) taken[e]++;
  }
}

static void place_block(void *context, int64_t block, int thread) {
  (void)thread;
  const permute_args *g = context;
  const moe_permutation *out = g->out;
  const int64_t scope = block / g->blocks_per_scope, tokens = scope_tokens(g, scope);
  const int64_t first = block % g->blocks_per_scope * BLOCK, last = min64(first + BLOCK, tokens * g->K);
  int64_t *taken = g->taken + block * g->E;
  const int64_t *base = g->base + scope * g->E;
  for (int64_t i = first; i < last; i++) {
    const int64_t choice = choice_at(g, scope, tokens, i);
    const int32_t e = g->expert_ids[choice];
    int64_t slot = e < 0 ? -1 : taken[e]++;
    if (g->capacity >= 0 && slot >= g->capacity) slot = -1;
    if (slot < 0) {
      out->choice_row[choice] = -1;
      g->weights[choice] = 0;
    } else {
      const int64_t row = base[e] + slot;
      out->choice_row[choice] = (int32_t)row;
      out->row_token[row] = (int32_t)(choice / g->K);
      if (out->row_weight) out->row_weight[row] = g->weights[choice];
    }
    if (out->slots) out->slots[choice] = (int32_t)slot;
  }
}

/* ---- priority by key ------------------------------------------------------------------------------------ */

/* Writes −1 into `ids` for the choices of a scope that have no room beside those of larger keys. */
static void drop_smallest(const permute_args *g, int64_t scope, int32_t *ids, claim *claims) {
  const int64_t first = scope * g->scope * g->K, count = scope_tokens(g, scope) * g->K;
  for (int32_t e = 0; e < g->E; e++) {
    int64_t n = 0;
    for (int64_t i = first; i < first + count; i++)
      if (ids[i] == e) claims[n++] = (claim){g->keys[i], (int32_t)i};
    if (n <= g->capacity) continue;
    for (int64_t i = n / 2; i-- > 0;) sink(claims, n, i);
    for (; n > g->capacity; n--) ids[pop(claims, n).index] = -1;
  }
}

/* Sorts the tokens of a scope by the keys of their first choices, the largest first. */
static void order_tokens(const permute_args *g, int64_t scope, int32_t *order, claim *claims) {
  const int64_t first = scope * g->scope, count = scope_tokens(g, scope);
  for (int64_t i = 0; i < count; i++) claims[i] = (claim){g->keys[(first + i) * g->K], (int32_t)(first + i)};
  sort_claims(claims, count);
  for (int64_t i = 0; i < count; i++) order[first + i] = claims[i].index;
}

/* Writes −1 into `ids` for all choices of a token but the first that has room, once all tokens have tried the choice
 * before. `taken` [E] counts rows, `wanted` [E] the choices that were tried. */
static void keep_first_with_room(const permute_args *g, int64_t scope, int32_t *ids, int64_t *taken,
                                 int64_t *wanted) {
  const int64_t first = scope * g->scope, count = scope_tokens(g, scope);
  memset(taken, 0, (size_t)g->E * sizeof *taken);
  for (int64_t k = 0; k < g->K; k++)
    for (int64_t t = first; t < first + count; t++) {
      bool placed = false;
      for (int64_t j = 0; j < k; j++) placed |= ids[t * g->K + j] >= 0;
      int32_t *id = &ids[t * g->K + k];
      if (*id < 0) continue;
      if (!placed) wanted[*id]++;
      if (placed || taken[*id] >= g->capacity)
        *id = -1;
      else
        taken[*id]++;
    }
}

/* Writes −1 into `ids` for choices beyond the capacity, where choices that are not taken count too. `taken` [E] counts
 * rows. */
static void claim_untaken(const permute_args *g, int64_t scope, int32_t *ids, int64_t *taken) {
  const int64_t first = scope * g->scope * g->K, count = scope_tokens(g, scope) * g->K;
  memset(taken, 0, (size_t)g->E * sizeof *taken);
  for (int64_t i = first; i < first + count; i++) {
    if (ids[i] == -1) continue;
    const int32_t e = ids[i] < 0 ? MOE_NOT_TAKEN(ids[i]) : ids[i];
    if (taken[e]++ >= g->capacity) ids[i] = -1;
  }
}

/* ---- entry points --------------------------------------------------------------------------------------- */

static int64_t blocks_per_scope(int64_t T, int64_t K, int64_t scope) {
  const int64_t blocks = ceil_div(min64(scope, T) * K, BLOCK);
  return blocks > 0 ? blocks : 1;
}

static int64_t scope_count(int64_t T, int64_t scope) { return T > 0 ? ceil_div(T, scope) : 0; }

size_t moe_permute_scratch_bytes(int64_t T, int64_t K, int64_t E, int64_t scope) {
  const int64_t scopes = scope_count(T, scope), blocks = scopes * blocks_per_scope(T, K, scope);
  return align_line((size_t)((blocks + scopes + 1) * E) * sizeof(int64_t)) +
         align_line((size_t)(T * K) * sizeof(int32_t)) +
         align_line((size_t)(min64(scope, T) * K) * sizeof(claim));
}

int64_t moe_permute(moe_execution ex, const int32_t *expert_ids, float *weights, int64_t T, int64_t K,
                    int64_t E, moe_capacity_rule rule, const moe_permutation *out, void *scratch) {
  const int64_t capacity = rule.capacity;
  int64_t scope = rule.scope;
  moe_priority priority = rule.priority;
  if (capacity < 0) scope = T > 0 ? T : 1, priority = MOE_TOKEN_THEN_CHOICE;
  const int64_t scopes = scope_count(T, scope), per_scope = blocks_per_scope(T, K, scope),
                blocks = scopes * per_scope;
  int64_t *taken = scratch, *base = taken + blocks * E, *wanted = base + scopes * E;
  int32_t *work =
      (int32_t *)((char *)scratch + align_line((size_t)((blocks + scopes + 1) * E) * sizeof(int64_t)));
  claim *claims = (claim *)((char *)work + align_line((size_t)(T * K) * sizeof *work));
  permute_args g = {.expert_ids = expert_ids,
                    .weights = weights,
                    .T = T,
                    .K = K,
                    .E = E,
                    .capacity = capacity,
                    .scope = scope,
                    .blocks_per_scope = per_scope,
                    .priority = priority,
                    .keys = rule.keys,
                    .taken = taken,
                    .base = base,
                    .out = out};

  memset(wanted, 0, (size_t)E * sizeof *wanted);
  if (priority == MOE_BATCH_PRIORITIZED) {
    for (int64_t s = 0; s < scopes; s++) order_tokens(&g, s, work, claims);
    g.token_order = work;
  } else if (priority == MOE_BY_KEY || priority == MOE_NEXT_CHOICE || priority == MOE_TOKEN_THEN_ANY_CHOICE) {
    memcpy(work, expert_ids, (size_t)(T * K) * sizeof *work);
    if (priority != MOE_NEXT_CHOICE)
      for (int64_t i = 0; i < T * K; i++)
        if (work[i] >= 0) wanted[work[i]]++;
    for (int64_t s = 0; s < scopes; s++)
      if (priority == MOE_BY_KEY)
        drop_smallest(&g, s, work, claims);
      else if (priority == MOE_NEXT_CHOICE)
        keep_first_with_room(&g, s, work, base, wanted);
      else
        claim_untaken(&g, s, work, base);
    g.expert_ids = work;
  }
  moe_parallel_for(ex.threads, blocks, count_block, &g);

  /* Counts become starts: of each block within its scope, of each scope within its expert, of each expert. */
  int64_t row = 0;
  for (int64_t e = 0; e < E; e++) {
    out->offsets[e] = row;
    int64_t all = 0;
    for (int64_t s = 0; s < scopes; s++) {
      int64_t before = 0;
      for (int64_t b = s * per_scope; b < (s + 1) * per_scope; b++) {
        const int64_t count = taken[b * E + e];
        taken[b * E + e] = before;
        before += count;
      }
      all += before;
      base[s * E + e] = row;
      row += capacity >= 0 ? min64(before, capacity) : before;
    }
    if (out->dropped)
      out->dropped[e] = (g.expert_ids == expert_ids ? all : wanted[e]) - (row - out->offsets[e]);
  }
  out->offsets[E] = row;
  moe_parallel_for(ex.threads, blocks, place_block, &g);
  return row;
}

/* ---- random keys ---------------------------------------------------------------------------------------- */

typedef struct {
  const moe_router_rule *rule;
  const int32_t *expert_ids;
  int64_t T, K, E;
  float *keys;
} key_args;

/* Where the first choice was drawn by the numbers of choice 0, the keys have those of the next choice: two uses of one draw
 * would be correlated. */
static void draw_keys(void *context, int64_t block, int thread) {
  (void)thread;
  const key_args *g = context;
  const int64_t drawn = g->rule->first_temperature > 0 ? 1 : 0;
  const int64_t last = min64(g->T, (block + 1) * BLOCK);
  for (int64_t t = block * BLOCK; t < last; t++)
    for (int64_t k = 0; k < g->K; k++) {
      const int32_t e = g->expert_ids[t * g->K + k];
      g->keys[t * g->K + k] = e < 0 ? 0
                                    : noise_uniform(g->rule->seed, g->rule->first_token + (uint64_t)t,
                                                    (k + drawn) * (g->E + 1) + e);
    }
}

void moe_random_keys(moe_execution ex, const moe_router_rule *rule, const int32_t *expert_ids, int64_t T,
                     int64_t K, int64_t E, float *keys) {
  key_args g = {rule, expert_ids, T, K, E, keys};
  moe_parallel_for(ex.threads, ceil_div(T, BLOCK), draw_keys, &g);
}
