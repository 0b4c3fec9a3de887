import ExpertParallel
import Foundation
import MoE
import MoECheckpoints
import MoEPlan

/// `moe plan --calibrate`: what this machine, or every one of a job, computes and sends, and how well that predicts
/// layers it was not measured on.
struct PlanCalibration {
  let execution: Execution
  /// The threads of a rank of MPI, where they were asked for.
  let threads: Int?
  let output: String?

  /// This process alone, with local ranks.
  func run() throws {
    try checkOutput()
    var calibration = Calibration(execution: execution)
    calibration.report = { print($0) }
    let host = try calibration.host()
    try save(host)
    show(try Trial.run(Trial.problems, on: host, execution: execution))
  }

  /// All ranks of a job of MPI, of which rank 0 speaks.
  func runOverMPI() throws {
    try onMPIRanks { communicator in
      let speaks = communicator.rank == 0
      if speaks { try checkOutput() }
      let own = try execution.part(of: communicator, asked: threads)
      try communicator.requireAgreement(on: [.instructionSet(own)])
      var calibration = Calibration(execution: own)
      if speaks { calibration.report = { print($0) } }
      let cluster = try calibration.cluster(over: communicator)
      if speaks { try save(cluster) }
      let trials = try Trial.run(Trial.problems, over: communicator, on: cluster, execution: own)
      if speaks { show(trials) }
    }
  }

  /// Nobody measures for a minute to find that the file cannot be written.
  private func checkOutput() throws {
    if let output { try SafetensorsWriter.check(path: output) }
  }

  private func save(_ cluster: Cluster) throws {
    guard let output else { return }
    do {
      try cluster.json().write(to: URL(filePath: output), options: .atomic)
    } catch {
      throw PlanError("\(output): the description cannot be written there")
    }
    print("cluster → \(output)")
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
    print()
    table.print()
    print(
      "\(trials.count { abs($0.error) <= 0.2 }) of \(trials.count) unseen layers (forward and backward) within 20 %"
    )
  }
}
