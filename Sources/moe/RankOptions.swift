import ArgumentParser
import ExpertParallel
import Foundation
import MoE
import MoETraining
import Synchronization

/// How gradients of what several ranks hold are added.
enum GradientSumOption: String, CaseIterable, ExpressibleByArgument {
  case exact, reduced

  var value: ExpertParallelLayer.GradientSum { self == .exact ? .exact : .reduced }
}

/// `auto` or a number of slices.
struct OverlapOption: ExpressibleByArgument {
  let degree: OverlapDegree

  init?(argument: String) {
    if argument == "auto" {
      degree = .automatic
    } else if let count = Int(argument), (1...32).contains(count) {
      degree = .slices(count)
    } else {
      return nil
    }
  }
}

/// Which ranks compute together, and how. None of it is a setting of a run: with exact sums it changes no bit.
struct RankOptions: ParsableArguments {
  @Option(
    help: "Ranks of this process, which share the batch, the experts and the threads (1).") var ranks: Int?
  @Flag(help: "Be one rank of those that mpirun starts; needs a build with the trait MPI.") var mpi = false
  @Option(
    help: ArgumentHelp(
      "Ranks that have all experts together; every so many others have them again (all ranks).",
      valueName: "ranks"))
  var expertParallel: Int?
  @Option(
    help: ArgumentHelp(
      "How ranks add the gradients of what all of them hold: exact has the bits of one rank, reduced is faster (exact).",
      valueName: "exact|reduced"))
  var gradientSum = GradientSumOption.exact
  @Option(
    help: ArgumentHelp(
      "Slices in which tokens travel to experts, computed while others are on their way (auto).",
      valueName: "auto|1|2|4…"))
  var overlap: OverlapOption?
  @Option(help: "Seconds that a rank waits for another before it gives up.") var timeout = 60

  func validate() throws {
    if let ranks, !(1...1024).contains(ranks) {
      throw ValidationError("--ranks is \(ranks), expected 1 to 1024")
    }
    if mpi, ranks != nil {
      throw ValidationError("--ranks is for ranks of one process; with --mpi their number is mpirun's -n")
    }
    if !(1...86_400).contains(timeout) {
      throw ValidationError("--timeout is \(timeout), expected 1 to 86400 seconds")
    }
    if let size = expertParallel, !mpi, !(1...(ranks ?? 1)).contains(size) || (ranks ?? 1) % size != 0 {
      throw ValidationError("--expert-parallel is \(size), which does not divide \(ranks ?? 1) ranks")
    }
  }

  /// Calls `body` on every rank of this process, with its part of the threads; with nil where there is one rank.
  ///
  /// What one rank throws ends all of them; each says on the standard error what stopped it.
  func run(_ execution: Execution, _ body: @escaping @Sendable (Ranks?, Execution) throws -> Void) throws {
    if mpi { return try runOverMPI(execution, body) }
    guard let count = ranks, count > 1 else { return try body(nil, execution) }
    let options = self
    let complaints = Mutex<[Int: String]>([:])
    do {
      try LocalCommunicator.run(ranks: count, timeout: .seconds(timeout)) { communicator in
        let rank = communicator.rank
        let threads = (rank + 1) * execution.threadCount / count - rank * execution.threadCount / count
        do {
          try body(
            options.ranks(communicator),
            Execution(instructionSet: execution.instructionSet, threadCount: max(threads, 1)))
        } catch {
          complaints.withLock { $0[rank] = "\(error)" }
          throw error
        }
      }
    } catch let shared as SharedFailure {
      throw shared.error
    } catch {
      let complaints = complaints.withLock(\.self)
      if complaints.count == count, Set(complaints.values).count == 1 { throw error }
      for (rank, text) in complaints.sorted(by: { $0.key < $1.key }) {
        Self.complain("rank \(rank): \(text)")
      }
      throw ExitCode.failure
    }
  }

  private func ranks(_ communicator: any Communicator) throws -> Ranks {
    try Ranks(
      communicator, gradientSum: gradientSum.value, expertParallelSize: expertParallel,
      exchange: ExchangeOptions(overlap: overlap?.degree ?? .automatic))
  }

  private static func complain(_ text: String) {
    FileHandle.standardError.write(Data((text + "\n").utf8))
  }

  #if MPI
    private func runOverMPI(
      _ execution: Execution, _ body: @escaping @Sendable (Ranks?, Execution) throws -> Void
    ) throws {
      let world = try MPICommunicator.world()
      world.timeout = .seconds(timeout)
      // mpirun leaves a second to ranks that are told to end: enough for a step, or to say which rank is missing.
      world.grace = .milliseconds(700)
      do {
        try body(ranks(world), execution)
      } catch let shared as SharedFailure {
        if world.rank == 0 { Self.complain("Error: \(shared)") }
        throw ExitCode.failure
      } catch {
        Self.complain("rank \(world.rank): \(error)")
        world.abort(code: 1)
      }
    }
  #else
    private func runOverMPI(
      _ execution: Execution, _ body: @escaping @Sendable (Ranks?, Execution) throws -> Void
    ) throws {
      throw CommunicationError.unavailable(
        "this moe was built without MPI; build it with: swift build -c release --traits MPI")
    }
  #endif
}
