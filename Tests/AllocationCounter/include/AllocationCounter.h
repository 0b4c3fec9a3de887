/* Counts the allocations of one thread and its team, for tests of code that promises none.
 *
 * The test executable's malloc and its kin take the place of the C library's. They count on threads that were
 * armed and are the C library's own everywhere else, so tests that run beside are not disturbed. */
#ifndef ALLOCATION_COUNTER_H
#define ALLOCATION_COUNTER_H

#include <stdbool.h>
#include <stdint.h>

/* Whether allocations can be counted here: with glibc and without a sanitizer, which has a malloc of its own. */
bool allocation_counter_works(void);

/* Begins to count on this thread and on the `threads` − 1 others of its team. */
void allocation_counter_start(int threads);

/* Ends counting and returns the calls of malloc, calloc, realloc and the aligned forms. */
int64_t allocation_counter_stop(int threads);

#endif
