package import ExpertParallel
package import MoE
import MoECore

/// The measured and the predicted time of one layer.
package struct Trial: Sendable {
  /// The layer.
  package var problem: LayerProblem
  /// The measured seconds of a forward and a backward pass, the median of all rounds.
  package var measured: Double
  /// The difference between the slowest and the fastest round, divided by the median.
  package var spread: Double
  /// The predicted seconds of a forward and a backward pass.
  package var predicted: Double
  /// (predicted − measured)/measured.
  package var error: Double { (predicted - measured) / measured }

  /// Layers with sizes, tokens and ranks that the calibration does not use.
  package static let problems = [
    LayerProblem(experts: 4, top: 1, hidden: 192, inner: 768, tokens: 1024, ranks: 1),
    LayerProblem(experts: 16, top: 2, hidden: 320, inner: 640, tokens: 2048, ranks: 1),
    LayerProblem(experts: 8, top: 2, hidden: 384, inner: 768, tokens: 1536, ranks: 2),
    LayerProblem(experts: 16, top: 4, hidden: 256, inner: 384, tokens: 1024, ranks: 2),
    LayerProblem(experts: 8, top: 1, hidden: 640, inner: 1280, tokens: 1024, ranks: 2, isGated: false),
    LayerProblem(experts: 12, top: 3, hidden: 320, inner: 448, tokens: 1200, ranks: 4),
    LayerProblem(experts: 32, top: 2, hidden: 288, inner: 576, tokens: 2048, ranks: 4),
    LayerProblem(experts: 4, top: 2, hidden: 448, inner: 896, tokens: 768, ranks: 4),
    LayerProblem(experts: 8, top: 2, hidden: 320, inner: 640, tokens: 2048, ranks: 2, skew: 1),
    LayerProblem(experts: 16, top: 1, hidden: 384, inner: 512, tokens: 3000, ranks: 4, skew: 0.7),
  ]

  /// Measures layers in rounds, over local ranks that share the threads, and predicts them from the loads of the
  /// measurement.
  ///
  /// - Throws: the errors of the layers, and ``PlanError``.
  package static func run(_ problems: [LayerProblem], on host: Cluster, execution: Execution) throws
    -> [Trial]
  {
    let weights = try problems.map { try $0.weights(seed: 1) }
    let rounds = try (0..<Calibration.rounds).map { _ in
      try zip(problems, weights).map { problem, weights in
        let threads = try Execution(
          instructionSet: execution.instructionSet,
          threadCount: max(execution.threadCount / problem.rankCount, 1))
        return try LocalCommunicator.run(ranks: problem.rankCount) {
          try LayerMeasurement.spread(problem, weights: weights, over: $0, execution: threads, steps: 9)
        }[0]
      }
    }
    return try problems.enumerated().map { index, problem in
      let steps = rounds.map { $0[index].step }
      var host = host
      host.ranksPerHost = problem.rankCount
      return Trial(
        problem: problem, measured: Stopwatch.median(steps),
        spread: (steps.max()! - steps.min()!) / Stopwatch.median(steps),
        predicted: try predict(problem, load: rounds[0][index].load, on: host).seconds)
    }
  }

  /// Measures layers over the ranks of a job, and predicts them. A collective: all ranks return equal trials.
  ///
  /// - Throws: the errors of the layers, `CommunicationError`, and ``PlanError``.
  package static func run(
    _ problems: [LayerProblem], over communicator: any Communicator, on cluster: Cluster, execution: Execution
  ) throws -> [Trial] {
    try problems.filter { $0.expertCount >= communicator.size }.map { problem in
      var problem = problem
      problem.rankCount = communicator.size
      let weights = try problem.weights(seed: 1)
      let rounds = try (0..<Calibration.rounds).map { _ in
        try LayerMeasurement.spread(
          problem, weights: weights, over: communicator, execution: execution, steps: 9)
      }
      let steps = try communicator.broadcast(rounds.map(\.step), root: 0, during: "a measured step")
      return Trial(
        problem: problem, measured: Stopwatch.median(steps),
        spread: (steps.max()! - steps.min()!) / Stopwatch.median(steps),
        predicted: try predict(problem, load: rounds[0].load, on: cluster).seconds)
    }
  }

  /// Predicts one layer from the choices of each expert, `[E]`.
  package static func predict(_ problem: LayerProblem, load: [Double], on cluster: Cluster) throws(PlanError)
    -> Prediction
  {
    let model = try ModelShape(
      expertCount: problem.expertCount, expertsPerToken: problem.expertsPerToken,
      hiddenSize: problem.hiddenSize, feedForwardSize: problem.feedForwardSize, isGated: problem.isGated,
      hasAttention: false)
    var workload = Workload(tokenCount: problem.tokenCount)
    workload.optimizer = .none
    workload.gradientSum = .exact
    workload.seed = nil
    return try Planner(model: model, workload: workload, cluster: cluster, load: .measured([load])).predict(
      Split(expertParallel: problem.rankCount))
  }
}
