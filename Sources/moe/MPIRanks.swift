import ExpertParallel
import Foundation
import MoE

/// Runs `body` as one rank of the job that `mpirun` started.
///
/// An error on a rank ends the job: the rank says it on stderr, the others say in which step they missed it, and all
/// exit with 1.
///
/// - Throws: `CommunicationError.unavailable` in a build without MPI.
func onMPIRanks(_ body: (any Communicator) throws -> Void) throws {
  #if MPI
    let communicator = try MPICommunicator.world()
    do {
      try body(communicator)
    } catch {
      // One line at once, so that those of several ranks do not mix.
      FileHandle.standardError.write(Data("rank \(communicator.rank): \(error)\n".utf8))
      communicator.abort(code: 1)
    }
  #else
    throw CommunicationError.unavailable(
      "this moe was built without MPI; build it with: swift build -c release --traits MPI")
  #endif
}

extension Execution {
  /// The threads divided among ranks of this process.
  func divided(among ranks: Int) throws -> Execution {
    try Execution(instructionSet: instructionSet, threadCount: max(threadCount / ranks, 1))
  }

  /// The threads of one of the processes that share a host: as many as were asked for, or its share of the processors,
  /// unless it may use fewer.
  func divided(among processes: Int, of asked: Int?) throws -> Execution {
    let share = max(ProcessInfo.processInfo.processorCount / processes, 1)
    return try Execution(instructionSet: instructionSet, threadCount: asked ?? min(threadCount, share))
  }
}
