/* Scatter-combine: blocks of tokens are tasks. */
#include "layout.h"

#define TEMPLATE "../combine.inc.h"
#include "isa/foreach.h"

/* Tokens of a task. */
enum { TOKENS = 16 };

typedef void (*combine_fn)(const moe_choices *, const moe_branch *, int64_t, int64_t, float *);
typedef void (*backward_fn)(const moe_choices *, const float *, int64_t, int64_t, float *);
static const combine_fn combine_table[MOE_ISA_COUNT] = ISA_TABLE(combine_tokens);
static const backward_fn backward_table[MOE_ISA_COUNT] = ISA_TABLE(combine_tokens_backward);

typedef struct {
  moe_isa isa;
  const moe_choices *choices;
  moe_branch branch;
  const float *dout;
  float *out;
} combine_args;

static void combine_block(void *context, int64_t block, int thread) {
  (void)thread;
  const combine_args *g = context;
  combine_table[g->isa](g->choices, &g->branch, block * TOKENS, min64(g->choices->T, (block + 1) * TOKENS),
                        g->out);
}

void moe_combine(moe_execution ex, const moe_choices *choices, const moe_branch *branch, float *out) {
  combine_args g = {.isa = ex.isa, .choices = choices, .out = out};
  if (branch) g.branch = *branch;
  moe_parallel_for(ex.threads, ceil_div(choices->T, TOKENS), combine_block, &g);
}

static void backward_block(void *context, int64_t block, int thread) {
  (void)thread;
  const combine_args *g = context;
  backward_table[g->isa](g->choices, g->dout, block * TOKENS, min64(g->choices->T, (block + 1) * TOKENS),
                         g->out);
}

void moe_combine_backward(moe_execution ex, const moe_choices *choices, const float *dout,
                          float *weight_gradients) {
  combine_args g = {.isa = ex.isa, .choices = choices, .dout = dout, .out = weight_gradients};
  moe_parallel_for(ex.threads, ceil_div(choices->T, TOKENS), backward_block, &g);
}
