import ExpertParallel
import Glibc

/// Runs `body` on this rank of MPI; rank 0 prints the lines it gives. An error ends the job.
func overMPI(pieceBytes: Int64? = nil, _ body: (any Communicator) throws -> [String]) throws {
  #if MPI
    let communicator = try MPICommunicator.world(pieceBytes: pieceBytes)
    do {
      let lines = try body(communicator)
      if communicator.rank == 0 { for line in lines { print(line) } }
    } catch {
      report("rank \(communicator.rank): \(error)", to: .error)
      communicator.abort(code: 1)
    }
  #else
    throw CommunicationError.unavailable("built without the package trait MPI")
  #endif
}

enum Stream {
  case output, error
}

/// One line at once, so that those of several ranks do not mix.
func report(_ line: String, to stream: Stream) {
  let bytes = Array((line + "\n").utf8)
  _ = unsafe write(stream == .output ? STDOUT_FILENO : STDERR_FILENO, bytes, bytes.count)
}

func exitProcess(_ code: Int32) -> Never { exit(code) }
