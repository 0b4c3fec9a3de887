import ArgumentParser
import ExpertParallel
import Foundation
import MoE

/// Runs `body` as one rank of the job that `mpirun` started.
///
/// An error on a rank ends the job: the rank prints it, the others print the step in which they missed the rank, and all
/// exit with 1. An error that all ranks share is printed once. Ranks that were asked for different things all say so,
/// before any of them calls `body`.
///
/// - Parameters:
///   - command: the command, as on the command line.
///   - options: what else must be the same on all ranks.
///   - timeout: how long a rank waits for another.
/// - Throws: `CommunicationError.unavailable` in a build without MPI.
func onMPIRanks(
  _ command: String, options: [SharedFact], timeout: Duration = .seconds(60),
  _ body: (any Communicator) throws -> Void
) throws {
  #if MPI
    let world = try MPICommunicator.world()
    world.timeout = timeout
    // mpirun leaves a second to ranks that are told to end: enough for a step, or to say which rank is missing.
    world.grace = .milliseconds(700)
    let facts = [SharedFact("the command", command), SharedFact("the version of moe", version)] + options
    do {
      try world.requireAgreement(on: facts)
      try body(world)
    } catch let disagreement as Disagreement {
      StandardStream.output.push()
      StandardStream.errors.line("rank \(world.rank): \(disagreement)")
      // mpirun ends the job as soon as one rank exits with an error, so each waits until all have printed.
      do { try world.barrier(during: "the end of the job") } catch { world.abort(code: 1) }
      throw ExitCode.failure
    } catch let shared as SharedFailure {
      if world.rank == 0 { StandardStream.errors.line("Error: \(shared)") }
      throw ExitCode.failure
    } catch {
      StandardStream.output.push()
      StandardStream.errors.line("rank \(world.rank): \(error)")
      world.abort(code: 1)
    }
  #else
    throw CommunicationError.unavailable(
      "this moe was built without MPI; build it with: swift build -c release --traits MPI")
  #endif
}

extension Execution {
  /// Returns the threads of one of `ranks` ranks: an equal part, rounded, of at least one thread.
  func part(_ rank: Int, of ranks: Int) throws -> Execution {
    try Execution(instructionSet: instructionSet, threadCount: Self.part(rank, of: ranks, threadCount))
  }

  /// Returns the threads of a rank that is a process: `asked`, or its part of the host's processors, unless the process
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
