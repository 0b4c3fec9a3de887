/* The few calls of MPI that an exchange needs, behind a header that needs no MPI. Without the package trait `MPI`
 * every function exists and reports that MPI is not built in.
 *
 * A rank is a rank of MPI_COMM_WORLD. One thread at a time may call (MPI_THREAD_SERIALIZED). Functions that can fail
 * return 0 or an MPI error code; moe_mpi_error writes the text of a code. */
#ifndef MOE_COMMUNICATOR_H
#define MOE_COMMUNICATOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A message to or from a rank, which is cut into messages of MPI of at most `piece` bytes: at least 1, at most INT32_MAX
 * because MPI counts in int, and the same number at both ends. */
typedef struct {
  void *bytes;
  int64_t count;
  int64_t piece;
  int32_t rank;
} moe_message;

/* The fault of an exchange. */
typedef enum {
  MOE_MPI_NO_FAULT = 0,
  MOE_MPI_FAILED = 1,   /* `code` is an MPI error code */
  MOE_MPI_TOO_FEW = 2,  /* `rank` sent `actual` bytes instead of `expected` */
  MOE_MPI_TOO_MANY = 3, /* `rank` sent more than `expected` bytes */
} moe_mpi_fault_kind;

typedef struct {
  moe_mpi_fault_kind kind;
  int32_t rank;
  int32_t code;
  int64_t expected, actual;
} moe_mpi_fault;

/* Messages under way. */
typedef struct moe_mpi_exchange moe_mpi_exchange;

/* Whether MPI is built in. */
bool moe_mpi_is_built_in(void);

/* The library's name and version, such as "Open MPI v4.1.4", up to `capacity` bytes with the closing 0; it need not
 * have been started. Empty where MPI is not built in. */
void moe_mpi_version(char *text, size_t capacity);

/* Starts MPI, unless the process has done so, and duplicates MPI_COMM_WORLD. If this function started MPI, the process ends
 * it at exit: by MPI_Finalize, or after moe_mpi_will_not_finalize by MPI_Abort. If it starts MPI for more than one rank, it
 * also ignores SIGPIPE unless the program handles it: otherwise the end of another rank would end this one without a
 * message. */
int moe_mpi_initialize(void);

/* Whether the process was told to end by SIGTERM, which mpirun sends to the ranks that outlive another rank. If
 * moe_mpi_initialize started MPI for more than one rank and the program does not handle the signal, the signal is only
 * noted, so that the rank can report which rank it missed; mpirun sends SIGKILL a second later. */
bool moe_mpi_is_told_to_end(void);

/* The rank, the number of ranks, and the largest tag (the smallest is 0). Valid after moe_mpi_initialize. */
int moe_mpi_rank(void);
int moe_mpi_size(void);
int64_t moe_mpi_largest_tag(void);

/* Writes for each of moe_mpi_size() ranks the lowest rank on the same host, by the names of the hosts. A collective. */
int moe_mpi_hosts(int32_t *hosts);

/* Starts to send and to receive messages with one tag. Messages of 0 bytes are sent too. The bytes must stay where they
 * are until moe_mpi_test has returned true; then the caller frees `*exchange`. If it fails, `*peer` is the rank of the
 * message that could not be started, or −1. */
int moe_mpi_start(const moe_message *sends, int sendCount, const moe_message *receives, int receiveCount,
                  int32_t tag, moe_mpi_exchange **exchange, int32_t *peer);

/* Makes progress. Returns whether all messages have been sent and received; false with a fault in `*fault`. */
bool moe_mpi_test(moe_mpi_exchange *exchange, moe_mpi_fault *fault);

/* Sets missing[rank] for each of moe_mpi_size() ranks from or to which a message is under way. */
void moe_mpi_missing(const moe_mpi_exchange *exchange, bool *missing);

/* Frees an exchange that is done. */
void moe_mpi_free(moe_mpi_exchange *exchange);

/* The text of an error code, up to `capacity` bytes with the closing 0. */
void moe_mpi_error(int code, char *text, size_t capacity);

/* From now on the end of this process aborts the job, because MPI_Finalize would wait for ranks that have ended. */
void moe_mpi_will_not_finalize(void);

/* Ends all ranks of the job with an exit code. */
_Noreturn void moe_mpi_abort(int code);

#endif
