/* The two blocking calls of MPI of which a plain exchange of tokens is made. They return 0 or an MPI error code, and -1
 * without the package trait `MPI`; MPI has been started by the library. */
#ifndef MOE_BENCH_ALL_TO_ALL_H
#define MOE_BENCH_ALL_TO_ALL_H

/* `count` integers to and from each rank. */
int bench_all_to_all_counts(const int *sent, int *received, int count);

/* sentRows[r] rows of `width` floats to each rank r and receivedRows[r] from each, in order of rank. */
int bench_all_to_all_rows(const float *sent, const int *sentRows, float *received, const int *receivedRows,
                          int width);

#endif
