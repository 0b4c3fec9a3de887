/* Claims ordered by their keys: a heap, because qsort may allocate. */
#ifndef MOE_CLAIMS_H
#define MOE_CLAIMS_H

#include <stdbool.h>
#include <stdint.h>

/* A choice or a token, and its key. */
typedef struct {
  float key;
  int32_t index;
} claim;

/* Returns whether a yields to b: its key is smaller, or equal and its index is later. */
static inline bool yields(claim a, claim b) { return a.key != b.key ? a.key < b.key : a.index > b.index; }

/* Moves claim `i` of a heap of n down until it yields to both claims below it, so that the root yields to all. */
static inline void sink(claim *heap, int64_t n, int64_t i) {
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

/* Removes the claim that yields to all others of a heap of n, and returns it. */
static inline claim pop(claim *heap, int64_t n) {
  const claim least = heap[0];
  heap[0] = heap[n - 1];
  sink(heap, n - 1, 0);
  return least;
}

/* Sorts n claims, the largest key first and equal ones by index. */
static inline void sort_claims(claim *claims, int64_t n) {
  for (int64_t i = n / 2; i-- > 0;) sink(claims, n, i);
  for (; n > 0; n--) {
    const claim least = pop(claims, n);
    claims[n - 1] = least;
  }
}

#endif
