/* The two blocking calls of MPI that a plain exchange of tokens uses. They return 0 or an MPI error code, and -1
 * without the package trait `MPI`; MPI has been started by the library. */
#ifndef MOE_BENCH_ALL_TO_ALL_H
#define MOE_BENCH_ALL_TO_ALL_H

/* Exchanges `count` integers with each rank. */
int bench_all_to_all_counts(const int *sent, int *received, int count);

/* Sends sentRows[r] rows of `width` floats to each rank r and receives receivedRows[r] from it, in order of rank. */
int bench_all_to_all_rows(const float *sent, const int *sentRows, float *received, const int *receivedRows,
                          int width);

#endif
