/* Token permutation: from each token's experts to rows ordered by expert.
 *
 * SHAPES       expert_ids [T,K] → offsets [E+1], row_token [M], choice_row [T,K]
 * DEFINITION   for scope: for (token, choice) in order of priority: e = expert_ids[token][choice];
 *                slot = taken[scope][e]++; row = offsets[e] + rows of earlier scopes + slot if slot < capacity
 * REGULARITIES Integers throughout: a counting sort over fixed blocks of positions, so the result is the same
 *              for any number of threads. Without a capacity there is one scope and rows follow token order.
 * EXAMPLE      2 choices of 3 tokens for experts (0,1) (0,2) (1,0): rows of expert 0 are tokens 0, 1, 2, of
 *              expert 1 tokens 0, 2, of expert 2 token 1. */
#include "layout.h"
#include <string.h>

/* Positions of a task. */
enum { BLOCK = 8192 };

typedef struct {
  const int32_t *expert_ids;
  float *weights;
  int64_t T, K, E, capacity, scope, blocks_per_scope;
  moe_priority priority;
  int64_t *taken; /* [block][E]: choices of the block, then of the scope's blocks before it */
  int64_t *base;  /* [scope][E]: first row */
  const moe_permutation *out;
} permute_args;

static int64_t scope_tokens(const permute_args *g, int64_t scope) {
  return min64(g->scope, g->T - scope * g->scope);
}

/* The flat [T,K] index of position `i` of a scope. */
static inline int64_t choice_at(const permute_args *g, int64_t scope, int64_t tokens, int64_t i) {
  if (g->priority != MOE_CHOICE_THEN_TOKEN) return scope * g->scope * g->K + i;
  return (scope * g->scope + i % tokens) * g->K + i / tokens;
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

/* ---- priority by weight --------------------------------------------------------------------------------- */

typedef struct {
  float weight;
  int32_t choice;
} claim;

/* Returns whether a loses its row to b: its weight is smaller, or equal and its choice is later. */
static bool yields(claim a, claim b) {
  return a.weight != b.weight ? a.weight < b.weight : a.choice > b.choice;
}

/* Moves claim `i` of a heap of n down until it yields to both claims below it, so that the root yields to all. (qsort may
 * allocate.) */
static void sink(claim *heap, int64_t n, int64_t i) {
  for (;;) {
    int64_t least = i;
    for (int64_t child = 2 * i + 1; child <= 2 * i + 2 && child < n; child++)
      if (yields(heap[child], heap[least])) least = child;
    if (least == i) return;
    const claim moved = heap[i];
    heap[i] = heap[least], heap[least] = moved;
    i = least;
  }
}

/* Writes −1 into `ids` for the choices of a scope that have no room beside those of larger weights. */
static void drop_smallest(const permute_args *g, int64_t scope, int32_t *ids, claim *claims) {
  const int64_t first = scope * g->scope * g->K, count = scope_tokens(g, scope) * g->K;
  for (int32_t e = 0; e < g->E; e++) {
    int64_t n = 0;
    for (int64_t i = first; i < first + count; i++)
      if (ids[i] == e) claims[n++] = (claim){g->weights[i], (int32_t)i};
    if (n <= g->capacity) continue;
    for (int64_t i = n / 2; i-- > 0;) sink(claims, n, i);
    while (n > g->capacity) {
      ids[claims[0].choice] = -1;
      claims[0] = claims[--n];
      sink(claims, n, 0);
    }
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
  permute_args g = {expert_ids, weights, T, K, E, capacity, scope, per_scope, priority, taken, base, out};

  memset(wanted, 0, (size_t)E * sizeof *wanted);
  if (capacity >= 0 && priority == MOE_BY_WEIGHT) {
    int32_t *ids =
        (int32_t *)((char *)scratch + align_line((size_t)((blocks + scopes + 1) * E) * sizeof(int64_t)));
    claim *claims = (claim *)((char *)ids + align_line((size_t)(T * K) * sizeof *ids));
    memcpy(ids, expert_ids, (size_t)(T * K) * sizeof *ids);
    for (int64_t i = 0; i < T * K; i++)
      if (ids[i] >= 0) wanted[ids[i]]++;
    for (int64_t s = 0; s < scopes; s++) drop_smallest(&g, s, ids, claims);
    g.expert_ids = ids;
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
