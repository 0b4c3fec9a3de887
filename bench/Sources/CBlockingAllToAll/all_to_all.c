#include "include/CBlockingAllToAll.h"

#ifdef MOE_MPI

#include <mpi.h>
#include <stdlib.h>

int bench_all_to_all_counts(const int *sent, int *received, int count) {
  return MPI_Alltoall(sent, count, MPI_INT, received, count, MPI_INT, MPI_COMM_WORLD);
}

int bench_all_to_all_rows(const float *sent, const int *sentRows, float *received, const int *receivedRows,
                          int width) {
  int size = 0;
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  int *numbers = malloc(4 * (size_t)size * sizeof *numbers);
  if (!numbers) return MPI_ERR_NO_MEM;
  int *sentCounts = numbers, *sentPlaces = numbers + size;
  int *receivedCounts = numbers + 2 * size, *receivedPlaces = numbers + 3 * size;
  int sentPlace = 0, receivedPlace = 0;
  for (int rank = 0; rank < size; rank++) {
    sentPlaces[rank] = sentPlace;
    receivedPlaces[rank] = receivedPlace;
    sentPlace += sentCounts[rank] = sentRows[rank] * width;
    receivedPlace += receivedCounts[rank] = receivedRows[rank] * width;
  }
  const int code = MPI_Alltoallv(sent, sentCounts, sentPlaces, MPI_FLOAT, received, receivedCounts,
                                 receivedPlaces, MPI_FLOAT, MPI_COMM_WORLD);
  free(numbers);
  return code;
}

#else

int bench_all_to_all_counts(const int *sent, int *received, int count) {
  (void)sent, (void)received, (void)count;
  return -1;
}

int bench_all_to_all_rows(const float *sent, const int *sentRows, float *received, const int *receivedRows,
                          int width) {
  (void)sent, (void)sentRows, (void)received, (void)receivedRows, (void)width;
  return -1;
}

#endif
