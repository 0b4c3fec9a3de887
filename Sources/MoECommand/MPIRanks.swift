import ArgumentParser
import ExpertParallel
import Foundation
import MoE

/// Runs `body` as one rank of the job that `mpirun` started.
///
/// An error on a rank ends the job: the rank says it on stderr, the others say in which step they missed it, and all
/// exit with 1. An error that all ranks have alike is said once.
///
/// - Parameter timeout: how long a rank waits for another.
/// - Throws: `CommunicationError.unavailable` in a build without MPI.
func onMPIRanks(timeout: Duration = .seconds(60), _ body: (any Communicator) throws -> Void) throws {
  #if MPI
    let world = try MPICommunicator.world()
    world.timeout = timeout
    // mpirun leaves a second to ranks that are told to end: enough for a step, or to say which rank is missing.
    world.grace = .milliseconds(700)
    do {
      try body(world)
    } catch let shared as SharedFailure {
      if world.rank == 0 { complain("Error: \(shared)") }
      throw ExitCode.failure
    } catch {
      complain("rank \(world.rank): \(error)")
      world.abort(code: 1)
    }
  #else
    throw CommunicationError.unavailable(
      "this moe was built without MPI; build it with: swift build -c release --traits MPI")
  #endif
}

/// Writes a line to stderr at once, so that those of several ranks do not mix.
func complain(_ text: String) { FileHandle.standardError.write(Data((text + "\n").utf8)) }

extension Execution {
  /// One rank's part of the threads, which differ by one at most; at least one.
  func part(_ rank: Int, of ranks: Int) throws -> Execution {
    try Execution(instructionSet: instructionSet, threadCount: Self.part(rank, of: ranks, threadCount))
  }

  /// The threads of a rank that is a process: as many as were asked for, or its part of the host's processors, unless it
  /// may use fewer.
  func part(of communicator: any Communicator, asked: Int?) throws -> Execution {
    let share = Self.part(
      communicator.rankOnThisHost, of: communicator.ranksOnThisHost, ProcessInfo.processInfo.processorCount)
    return try Execution(instructionSet: instructionSet, threadCount: asked ?? min(threadCount, share))
  }

  private static func part(_ rank: Int, of ranks: Int, _ count: Int) -> Int {
    max((rank + 1) * count / ranks - rank * count / ranks, 1)
  }
}
