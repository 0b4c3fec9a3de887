import ArgumentParser
import ExpertParallel
import MoE
import MoETraining
import Synchronization

/// How the gradients of several ranks are added.
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
    } else if let count = Int(argument), (1...OverlapDegree.limit).contains(count) {
      degree = .slices(count)
    } else {
      return nil
    }
  }
}

/// The ranks that compute together, and how. With exact sums no option changes a bit. The run remembers how sums are made.
struct RankOptions: ParsableArguments {
  @Option(
    help: "Ranks of this process, which share batch, experts and threads (1).") var ranks: Int?
  @Flag(help: "Be one rank of those that mpirun starts; needs a build with the trait MPI.") var mpi = false
  @Option(
    help: ArgumentHelp(
      "Ranks that share one copy of the experts; it divides the number of ranks (all ranks).",
      valueName: "ranks"))
  var expertParallel: Int?
  @Option(
    help: ArgumentHelp(
      "How ranks add the gradients of what all of them hold: exact has the bits of one rank, reduced is faster (exact, or as the run was begun).",
      valueName: "exact|reduced"))
  var gradientSum: GradientSumOption?
  @Option(
    help: ArgumentHelp(
      "Slices of the exchange: one is computed while the next travels (auto).",
      valueName: "auto|1|2|4…"))
  var overlap: OverlapOption?
  @Option(
    help: ArgumentHelp(
      "Steps between placements of the experts, by the rows that each had meanwhile (never).",
      valueName: "steps"))
  var rebalanceEvery: Int?
  @Option(
    help: ArgumentHelp(
      "Copies of busy experts that each layer may have after a placement, over all ranks (0).",
      valueName: "count"))
  var expertCopies: Int?
  @Option(
    help:
      "Seconds that a rank waits for another before it gives up; at least 600 while checkpoints are written and read (60)."
  ) var timeout: Int?

  func validate() throws {
    if let ranks, !(1...1024).contains(ranks) {
      throw ValidationError("--ranks is \(ranks), expected 1 to 1024")
    }
    if mpi, ranks != nil {
      throw ValidationError("--ranks is for ranks of one process; with --mpi their number is mpirun's -n")
    }
    if let timeout, !(1...86_400).contains(timeout) {
      throw ValidationError("--timeout is \(timeout), expected 1 to 86400 seconds")
    }
    if !mpi, ranks == nil,
      let option = [("--overlap", overlap != nil), ("--timeout", timeout != nil)].first(where: \.1)?.0
    {
      throw ValidationError("\(option) is for several ranks; --ranks or --mpi gives them")
    }
    if let steps = rebalanceEvery {
      if steps < 1 { throw ValidationError("--rebalance-every is \(steps), expected at least 1") }
      if !mpi, ranks ?? 1 < 2 {
        throw ValidationError("--rebalance-every is for several ranks; --ranks or --mpi gives them")
      }
      if let size = expertParallel, !mpi, size < ranks ?? 1 {
        throw ValidationError(
          "--rebalance-every places experts over all ranks, and --expert-parallel \(size) over some of them")
      }
    }
    if let copies = expertCopies {
      if rebalanceEvery == nil { throw ValidationError("--expert-copies needs --rebalance-every") }
      if !(0...100_000).contains(copies) {
        throw ValidationError("--expert-copies is \(copies), expected 0 to 100000")
      }
    }
    if let size = expertParallel, !mpi, !(1...(ranks ?? 1)).contains(size) || (ranks ?? 1) % size != 0 {
      throw ValidationError("--expert-parallel is \(size), which does not divide \(ranks ?? 1) ranks")
    }
  }

  /// Calls `body` on every rank, with its part of the threads; with nil where there is one rank.
  ///
  /// An error of one rank ends all of them; each says on the standard error what stopped it.
  ///
  /// - Parameters:
  ///   - command: the command, as on the command line.
  ///   - threads: the number of threads of each MPI rank; nil where `--threads` is not given.
  ///   - options: what the processes of MPI must have in common beside these options.
  func run(
    _ command: String, _ execution: Execution, threads: Int?, options: [SharedFact],
    _ body: @escaping @Sendable ((any Communicator)?, Execution) throws -> Void
  ) throws {
    if mpi {
      return try onMPIRanks(
        command, options: options + facts + [.instructionSet(execution)], timeout: .seconds(timeout ?? 60)
      ) { world in
        try body(world, execution.part(of: world, asked: threads))
      }
    }
    guard let count = ranks, count > 1 else { return try body(nil, execution) }
    let complaints = Mutex<[Int: String]>([:])
    do {
      try LocalCommunicator.run(ranks: count, timeout: .seconds(timeout ?? 60)) { communicator in
        do {
          try body(communicator, execution.part(communicator.rank, of: count))
        } catch {
          complaints.withLock { $0[communicator.rank] = "\(error)" }
          throw error
        }
      }
    } catch let shared as SharedFailure {
      throw shared.error
    } catch {
      let complaints = complaints.withLock(\.self)
      if complaints.count == count, Set(complaints.values).count == 1 { throw error }
      for (rank, text) in complaints.sorted(by: { $0.key < $1.key }) {
        StandardStream.errors.line("rank \(rank): \(text)")
      }
      throw ExitCode.failure
    }
  }

  /// These options, as far as they must be the same on all ranks. Ranks may wait differently long.
  private var facts: [SharedFact] {
    [
      SharedFact("--expert-parallel", expertParallel.map(String.init) ?? "not given"),
      SharedFact("--gradient-sum", gradientSum?.rawValue ?? "not given"),
      SharedFact("--overlap", overlap.map { "\($0.degree)" } ?? "not given"),
      SharedFact("--rebalance-every", rebalanceEvery.map(String.init) ?? "not given"),
      SharedFact("--expert-copies", expertCopies.map(String.init) ?? "not given"),
    ]
  }

  /// Returns the ranks of `communicator`, with these options.
  ///
  /// - Parameter stored: how the run that is continued adds gradients; an option overrides it.
  func ranks(_ communicator: any Communicator, stored: String?) throws -> Ranks {
    try Ranks(
      communicator, gradientSum: (gradientSum ?? stored.flatMap(GradientSumOption.init) ?? .exact).value,
      expertParallelSize: expertParallel,
      exchange: ExchangeOptions(overlap: overlap?.degree ?? .automatic),
      rebalancing: rebalanceEvery.map { RebalancingOptions(interval: $0, copyCount: expertCopies ?? 0) })
  }
}
