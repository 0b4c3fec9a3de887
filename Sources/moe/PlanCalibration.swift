import ExpertParallel
import Foundation
import MoE
import MoEPlan

/// `moe plan --calibrate`: what this machine computes and copies, and how well that predicts layers it was not measured
/// on.
struct PlanCalibration {
  let execution: Execution
  let output: String?

  func run() throws {
    var calibration = Calibration(execution: execution)
    calibration.report = { print($0) }
    let host = try calibration.host()
    if let output {
      do {
        try host.json().write(to: URL(filePath: output), options: .atomic)
      } catch {
        throw PlanError("\(output): the description cannot be written there")
      }
      print("cluster → \(output)")
    }
    print()
    var table = TextTable("E", "K", "D", "F", "tokens", "ranks", "load", "predicted", "measured", "error",
      "rounds differ by")
    var errors: [Double] = []
    for trial in try Trial.run(Trial.problems, on: host, execution: execution) {
      let problem = trial.problem
      errors.append(abs(trial.error))
      table.add(
        "\(problem.expertCount)", "\(problem.expertsPerToken)", "\(problem.hiddenSize)",
        "\(problem.feedForwardSize)\(problem.isGated ? "" : ", no gate")", "\(problem.tokenCount)",
        "\(problem.rankCount)", problem.skew > 0 ? "skewed" : "even", "\(fixed(trial.predicted * 1e3, 2)) ms",
        "\(fixed(trial.measured * 1e3, 2)) ms",
        "\(trial.error < 0 ? "−" : "+")\(fixed(abs(trial.error) * 100, 1)) %",
        "\(fixed(trial.spread * 100, 0)) %")
    }
    table.print()
    print(
      "\(errors.filter { $0 <= 0.2 }.count) of \(errors.count) unseen layers (forward and backward) within 20 %")
  }
}
