/* Memory for packed weights and scratch, in large pages if the system has them: a walk through panels in 4 KiB pages misses
 * the TLB every 64 lines. */
#include "layout.h"
#include <stdlib.h>
#if defined(__linux__)
#include <sys/mman.h>
#endif

void *moe_allocate(size_t bytes) {
  const size_t large = (size_t)2 << 20, alignment = bytes >= large ? large : LINE;
  if (bytes > SIZE_MAX - large) return NULL;
  const size_t rounded = (bytes + alignment - 1) / alignment * alignment;
  void *memory = NULL;
  if (posix_memalign(&memory, alignment, rounded > 0 ? rounded : alignment) != 0) return NULL;
#if defined(__linux__)
  if (bytes >= large) madvise(memory, rounded, MADV_HUGEPAGE);
#endif
  return memory;
}

void moe_free(void *memory) { free(memory); }
