public import ExpertParallel
public import MoE
import MoECore

/// A layer that was measured and predicted.
public struct Trial: Sendable {
  /// What was measured.
  public var problem: LayerProblem
  /// Seconds of a forward and a backward pass: the median of rounds.
  public var measured: Double
  /// The slowest round less the fastest, over the median.
  public var spread: Double
  /// The same as predicted.
  public var predicted: Double
  /// (predicted − measured)/measured.
  public var error: Double { (predicted - measured) / measured }

  /// Sizes, tokens and ranks that no calibration uses.
  public static let problems = [
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

  /// Measures layers over local ranks, which divide the threads, in rounds, and predicts them from the loads that were
  /// seen.
  public static func run(_ problems: [LayerProblem], on host: Cluster, execution: Execution) throws -> [Trial]
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

  /// Measures the same layers over the ranks of a job. A collective; every rank gets the same.
  public static func run(
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

  /// The prediction alone.
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
