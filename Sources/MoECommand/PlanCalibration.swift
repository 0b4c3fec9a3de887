import ExpertParallel
import Foundation
import MoE
import MoECheckpoints
import MoEPlan

/// `moe plan --calibrate`: measures how fast this machine, or each machine of a job, computes and sends, and how well that
/// predicts layers that were not measured.
struct PlanCalibration {
  let execution: Execution
  /// The number of threads of each MPI rank; nil where `--threads` is not given.
  let threads: Int?
  let output: String?

  /// Measures this machine, with ranks of this process.
  func run() throws {
    try checkOutput()
    var calibration = Calibration(execution: execution)
    calibration.report = Self.tell
    let host = try calibration.host()
    try save(host)
    show(try Trial.run(Trial.problems, on: host, execution: execution))
  }

  /// Measures the machines of an MPI job; rank 0 prints.
  func runOverMPI() throws {
    try onMPIRanks("moe plan --calibrate", options: [.instructionSet(execution)]) { communicator in
      let speaks = communicator.rank == 0
      if speaks { try checkOutput() }
      let own = try execution.part(of: communicator, asked: threads)
      var calibration = Calibration(execution: own)
      if speaks { calibration.report = Self.tell }
      let cluster = try calibration.cluster(over: communicator)
      if speaks { try save(cluster) }
      let trials = try Trial.run(Trial.problems, over: communicator, on: cluster, execution: own)
      if speaks { show(trials) }
    }
  }

  /// Shows at once what was measured: all of it takes a minute.
  private static func tell(_ text: String) {
    StandardStream.output.line(text)
    StandardStream.output.push()
  }

  /// Checks the output before a minute of measuring.
  private func checkOutput() throws {
    if let output { try AtomicFile.check(output) }
  }

  private func save(_ cluster: Cluster) throws {
    guard let output else { return }
    try AtomicFile.write(Array(cluster.json()), to: output)
    StandardStream.output.line("cluster → \(output)")
  }

  private func show(_ trials: [Trial]) {
    var table = TextTable(
      "E", "K", "D", "F", "tokens", "ranks", "load", "predicted", "measured", "error", "rounds differ by")
    for trial in trials {
      let problem = trial.problem
      table.add(
        "\(problem.expertCount)", "\(problem.expertsPerToken)", "\(problem.hiddenSize)",
        "\(problem.feedForwardSize)\(problem.isGated ? "" : ", no gate")", "\(problem.tokenCount)",
        "\(problem.rankCount)", problem.skew > 0 ? "skewed" : "even", "\(fixed(trial.predicted * 1e3, 2)) ms",
        "\(fixed(trial.measured * 1e3, 2)) ms",
        "\(trial.error < 0 ? "−" : "+")\(fixed(abs(trial.error) * 100, 1)) %",
        "\(fixed(trial.spread * 100, 0)) %")
    }
    StandardStream.output.line()
    table.write()
    StandardStream.output.line(
      "\(trials.count { abs($0.error) <= 0.2 }) of \(trials.count) unseen layers (forward and backward) within 20 %"
    )
  }
}
