/* CCommunicator without MPI. */
#ifndef MOE_MPI

#include "include/CCommunicator.h"
#include <stdio.h>
#include <stdlib.h>

enum { NOT_BUILT_IN = 1 };

bool moe_mpi_is_built_in(void) { return false; }
void moe_mpi_version(char *text, size_t capacity) { snprintf(text, capacity, "%s", ""); }
int moe_mpi_initialize(void) { return NOT_BUILT_IN; }
bool moe_mpi_is_told_to_end(void) { return false; }
int moe_mpi_rank(void) { return 0; }
int moe_mpi_size(void) { return 1; }
int64_t moe_mpi_largest_tag(void) { return 0; }
int moe_mpi_hosts(int32_t *hosts) {
  (void)hosts;
  return NOT_BUILT_IN;
}

int moe_mpi_start(const moe_message *sends, int sendCount, const moe_message *receives, int receiveCount,
                  int32_t tag, moe_mpi_exchange **exchange, int32_t *peer) {
  (void)sends, (void)sendCount, (void)receives, (void)receiveCount, (void)tag;
  *exchange = NULL;
  *peer = -1;
  return NOT_BUILT_IN;
}

bool moe_mpi_test(moe_mpi_exchange *exchange, moe_mpi_fault *fault) {
  (void)exchange;
  *fault = (moe_mpi_fault){.kind = MOE_MPI_FAILED, .code = NOT_BUILT_IN};
  return false;
}

void moe_mpi_missing(const moe_mpi_exchange *exchange, bool *missing) { (void)exchange, (void)missing; }
void moe_mpi_free(moe_mpi_exchange *exchange) { (void)exchange; }

void moe_mpi_error(int code, char *text, size_t capacity) {
  (void)code;
  snprintf(text, capacity, "MPI is not built in");
}

void moe_mpi_will_not_finalize(void) {}
void moe_mpi_abort(int code) { exit(code); }

#endif
