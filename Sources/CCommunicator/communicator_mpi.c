/* CCommunicator over MPI, by MPI_Isend and MPI_Irecv to and from each rank. Open MPI makes the same messages of one
 * MPI_Ialltoallv, but then a rank cannot find out which rank is missing. */
#ifdef MOE_MPI

#include "include/CCommunicator.h"
#include <mpi.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static MPI_Comm communicator = MPI_COMM_NULL;
static bool willNotFinalize = false;
static volatile sig_atomic_t toldToEnd = 0;

typedef struct {
  int64_t start, bytes; /* of this piece within its message */
  int64_t message;      /* bytes of that */
  int32_t rank;
  bool receives;
  char *probed; /* the memory of a piece that is probed first; NULL after that, or without a probe */
} piece_info;

/* If a message is longer than expected and comes from a process of the same host, Open MPI 4.1 copies all of it, also
 * behind the memory it was given (btl_vader_single_copy_mechanism). So such a message is probed first and received once its
 * size is known. Pieces up to CUT_BY_MPI bytes come over TCP, where MPI cuts them. */
enum { CUT_BY_MPI = 65536 };

struct moe_mpi_exchange {
  int count, remaining, probing;
  int32_t tag;
  MPI_Request *requests; /* [count] */
  piece_info *pieces;    /* [count] */
  MPI_Status *statuses;  /* [count] scratch of MPI_Testsome */
  int *indices;          /* [count] scratch of MPI_Testsome */
};

static void finish(void) {
  int finalized = 0;
  MPI_Finalized(&finalized);
  if (finalized) return;
  if (willNotFinalize) MPI_Abort(MPI_COMM_WORLD, 1);
  MPI_Finalize();
}

static void note(int signal) {
  (void)signal;
  toldToEnd = 1;
}

/* Installs a handler of a signal, unless the program has one or ignores the signal. */
static void handle(int signal, void (*handler)(int)) {
  struct sigaction present;
  if (sigaction(signal, NULL, &present) || present.sa_handler != SIG_DFL) return;
  struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
  sigemptyset(&action.sa_mask);
  sigaction(signal, &action, NULL);
}

bool moe_mpi_is_built_in(void) { return true; }
bool moe_mpi_is_told_to_end(void) { return toldToEnd; }

void moe_mpi_version(char *text, size_t capacity) {
  char full[MPI_MAX_LIBRARY_VERSION_STRING + 1] = {0};
  int length = 0;
  MPI_Get_library_version(full, &length);
  /* The text after the first comma names the package of the distribution. */
  snprintf(text, capacity, "%.*s", (int)strcspn(full, ","), full);
}

int moe_mpi_initialize(void) {
  if (communicator != MPI_COMM_NULL) return MPI_SUCCESS;
  int initialized = 0, provided = 0, code;
  MPI_Initialized(&initialized);
  if (initialized) {
    if ((code = MPI_Query_thread(&provided))) return code;
  } else {
    if ((code = MPI_Init_thread(NULL, NULL, MPI_THREAD_SERIALIZED, &provided))) return code;
    atexit(finish);
  }
  /* The library calls from one thread at a time, but not always from the same one. */
  if (provided < MPI_THREAD_SERIALIZED) return MPI_ERR_UNSUPPORTED_OPERATION;
  MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
  if ((code = MPI_Comm_dup(MPI_COMM_WORLD, &communicator))) return code;
  if ((code = MPI_Comm_set_errhandler(communicator, MPI_ERRORS_RETURN))) return code;
  if (!initialized && moe_mpi_size() > 1) {
    handle(SIGTERM, note);
    /* Open MPI writes to the sockets of ranks that have ended. */
    handle(SIGPIPE, SIG_IGN);
  }
  return MPI_SUCCESS;
}

int moe_mpi_rank(void) {
  int rank = 0;
  MPI_Comm_rank(communicator, &rank);
  return rank;
}

int moe_mpi_size(void) {
  int size = 1;
  MPI_Comm_size(communicator, &size);
  return size;
}

int64_t moe_mpi_largest_tag(void) {
  int found = 0;
  void *value = NULL;
  MPI_Comm_get_attr(communicator, MPI_TAG_UB, &value, &found);
  return found ? *(int *)value : 32767;
}

int moe_mpi_hosts(int32_t *hosts) {
  const int size = moe_mpi_size();
  char own[MPI_MAX_PROCESSOR_NAME + 1] = {0};
  int length = 0;
  char(*names)[sizeof own] = calloc((size_t)size, sizeof own);
  if (!names) return MPI_ERR_NO_MEM;
  int code = MPI_Get_processor_name(own, &length);
  if (!code) code = MPI_Allgather(own, sizeof own, MPI_CHAR, names, sizeof own, MPI_CHAR, communicator);
  for (int rank = 0; !code && rank < size; rank++) {
    hosts[rank] = 0;
    while (strcmp(names[hosts[rank]], names[rank])) hosts[rank]++;
  }
  free(names);
  return code;
}

/* The number of pieces of messages. The last piece of a message is never a full one, so that a message that is shorter or
 * longer than expected is noticed. */
static int64_t piece_count(const moe_message *messages, int count) {
  int64_t pieces = 0;
  for (int i = 0; i < count; i++) pieces += messages[i].count / messages[i].piece + 1;
  return pieces;
}

/* Posts the pieces of messages, after the pieces posted so far. */
static int post(moe_mpi_exchange *exchange, const moe_message *messages, int count, bool receives,
                int32_t tag, int32_t *peer) {
  for (int i = 0; i < count; i++) {
    const moe_message *m = &messages[i];
    for (int64_t start = 0; start <= m->count; start += m->piece) {
      const int64_t bytes = m->count - start < m->piece ? m->count - start : m->piece;
      char *at = bytes ? (char *)m->bytes + start : NULL;
      MPI_Request *request = &exchange->requests[exchange->count];
      if (receives && m->piece > CUT_BY_MPI) {
        static char nothing;
        *request = MPI_REQUEST_NULL;
        exchange->pieces[exchange->count++] =
            (piece_info){start, bytes, m->count, m->rank, receives, at ? at : &nothing};
        exchange->probing++;
        continue;
      }
      const int code = receives ? MPI_Irecv(at, (int)bytes, MPI_BYTE, m->rank, tag, communicator, request)
                                : MPI_Isend(at, (int)bytes, MPI_BYTE, m->rank, tag, communicator, request);
      if (code) {
        *peer = m->rank;
        return code;
      }
      exchange->pieces[exchange->count++] = (piece_info){start, bytes, m->count, m->rank, receives, NULL};
    }
  }
  return MPI_SUCCESS;
}

int moe_mpi_start(const moe_message *sends, int sendCount, const moe_message *receives, int receiveCount,
                  int32_t tag, moe_mpi_exchange **result, int32_t *peer) {
  *result = NULL;
  *peer = -1;
  const int64_t pieces = piece_count(sends, sendCount) + piece_count(receives, receiveCount);
  if (pieces > INT32_MAX) return MPI_ERR_COUNT;
  moe_mpi_exchange *exchange = calloc(1, sizeof *exchange);
  if (!exchange) return MPI_ERR_NO_MEM;
  const size_t room = pieces ? (size_t)pieces : 1;
  exchange->requests = calloc(room, sizeof *exchange->requests);
  exchange->pieces = calloc(room, sizeof *exchange->pieces);
  exchange->statuses = calloc(room, sizeof *exchange->statuses);
  exchange->indices = calloc(room, sizeof *exchange->indices);
  int code = exchange->requests && exchange->pieces && exchange->statuses && exchange->indices
                 ? MPI_SUCCESS
                 : MPI_ERR_NO_MEM;
  if (code) {
    moe_mpi_free(exchange);
    return code;
  }
  exchange->tag = tag;
  /* Receives are posted first, so that messages that arrive find their memory. After a failure the pieces posted stay with
   * MPI. */
  code = post(exchange, receives, receiveCount, true, tag, peer);
  if (!code) code = post(exchange, sends, sendCount, false, tag, peer);
  exchange->remaining = exchange->count;
  if (!code) *result = exchange;
  return code;
}

/* Returns the fault of one piece that is done, if it has one. */
static moe_mpi_fault fault_of(const piece_info *piece, const MPI_Status *status, int code) {
  moe_mpi_fault fault = {.rank = piece->rank, .code = code, .expected = piece->message};
  if (code != MPI_SUCCESS) {
    int class = code;
    MPI_Error_class(code, &class);
    fault.kind = piece->receives && class == MPI_ERR_TRUNCATE ? MOE_MPI_TOO_MANY : MOE_MPI_FAILED;
  } else if (piece->receives) {
    int bytes = 0;
    MPI_Get_count(status, MPI_BYTE, &bytes);
    fault.actual = piece->start + bytes;
    if (bytes != piece->bytes) fault.kind = MOE_MPI_TOO_FEW;
  }
  return fault;
}

/* Starts to receive the pieces that have come and have the expected size. */
static void probe(moe_mpi_exchange *exchange, moe_mpi_fault *fault) {
  for (int i = 0; i < exchange->count && exchange->probing > 0; i++) {
    piece_info *piece = &exchange->pieces[i];
    if (!piece->probed) continue;
    int found = 0, bytes = 0;
    MPI_Message message;
    MPI_Status status;
    int code = MPI_Improbe(piece->rank, exchange->tag, communicator, &found, &message, &status);
    if (!code && !found) {
      /* The later pieces of the message come after it. */
      while (i + 1 < exchange->count && exchange->pieces[i + 1].probed &&
             exchange->pieces[i + 1].rank == piece->rank)
        i++;
      continue;
    }
    if (!code) {
      MPI_Get_count(&status, MPI_BYTE, &bytes);
      if (bytes != piece->bytes) {
        *fault = (moe_mpi_fault){.kind = bytes < piece->bytes ? MOE_MPI_TOO_FEW : MOE_MPI_TOO_MANY,
                                 .rank = piece->rank,
                                 .actual = piece->start + bytes,
                                 .expected = piece->message};
        return;
      }
      code = MPI_Imrecv(bytes ? piece->probed : NULL, bytes, MPI_BYTE, &message, &exchange->requests[i]);
    }
    if (code) {
      *fault = (moe_mpi_fault){.kind = MOE_MPI_FAILED, .rank = piece->rank, .code = code};
      return;
    }
    piece->probed = NULL;
    exchange->probing--;
  }
}

bool moe_mpi_test(moe_mpi_exchange *exchange, moe_mpi_fault *fault) {
  *fault = (moe_mpi_fault){0};
  if (exchange->remaining == 0) return true;
  if (exchange->probing > 0) {
    probe(exchange, fault);
    if (fault->kind) return false;
  }
  int done = 0;
  const int code =
      MPI_Testsome(exchange->count, exchange->requests, &done, exchange->indices, exchange->statuses);
  /* All requests that were posted are done. */
  if (done == MPI_UNDEFINED) {
    exchange->remaining = exchange->probing;
    return exchange->remaining == 0;
  }
  if (code != MPI_SUCCESS && code != MPI_ERR_IN_STATUS) {
    *fault = (moe_mpi_fault){.kind = MOE_MPI_FAILED, .rank = -1, .code = code};
    return false;
  }
  for (int i = 0; i < done; i++) {
    const int error = code == MPI_ERR_IN_STATUS ? exchange->statuses[i].MPI_ERROR : MPI_SUCCESS;
    if (error == MPI_ERR_PENDING) continue;
    exchange->remaining--;
    if (!fault->kind)
      *fault = fault_of(&exchange->pieces[exchange->indices[i]], &exchange->statuses[i], error);
  }
  return !fault->kind && exchange->remaining == 0;
}

void moe_mpi_missing(const moe_mpi_exchange *exchange, bool *missing) {
  for (int i = 0; i < exchange->count; i++)
    if (exchange->requests[i] != MPI_REQUEST_NULL || exchange->pieces[i].probed)
      missing[exchange->pieces[i].rank] = true;
}

void moe_mpi_free(moe_mpi_exchange *exchange) {
  if (!exchange) return;
  free(exchange->requests);
  free(exchange->pieces);
  free(exchange->statuses);
  free(exchange->indices);
  free(exchange);
}

void moe_mpi_error(int code, char *text, size_t capacity) {
  char full[MPI_MAX_ERROR_STRING + 1] = {0};
  int length = 0;
  MPI_Error_string(code, full, &length);
  snprintf(text, capacity, "%s", full);
}

void moe_mpi_will_not_finalize(void) { willNotFinalize = true; }

void moe_mpi_abort(int code) {
  MPI_Abort(MPI_COMM_WORLD, code);
  _Exit(code ? code : 1);
}

#endif
