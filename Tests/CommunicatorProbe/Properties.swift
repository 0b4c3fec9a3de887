import CommunicatorProperties
import ExpertParallel
import Glibc

/// A line for each property with the hash of what all ranks received.
func propertyLines(_ communicator: any Communicator) throws -> [String] {
  try CommunicatorProperty.all.map { property in
    let hash = try property.check(communicator, seeds: 0..<6)
    return "\(communicator.size) ranks  \(String(hash, radix: 16))  \(property.name)"
  }
}

func runPropertiesOverMPI() throws {
  #if MPI
    // Messages of MPI so short that most blocks are cut.
    let communicator = try MPICommunicator.world(pieceBytes: 5000)
    do {
      let lines = try propertyLines(communicator)
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
