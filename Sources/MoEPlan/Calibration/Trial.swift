import ExpertParallel
public import MoE
import MoECore

/// A layer that was measured and predicted.
public struct Trial: Sendable, Codable {
  /// What was measured.
  public var problem: LayerProblem
  /// Seconds of a forward and a backward pass.
  public var measured: Double
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
    LayerProblem(experts: 32, top: 2, hidden: 256, inner: 512, tokens: 2048, ranks: 4),
    LayerProblem(experts: 4, top: 2, hidden: 448, inner: 896, tokens: 768, ranks: 4),
    LayerProblem(experts: 8, top: 2, hidden: 320, inner: 640, tokens: 2048, ranks: 2, skew: 1),
    LayerProblem(experts: 16, top: 1, hidden: 384, inner: 512, tokens: 3000, ranks: 4, skew: 0.7),
  ]

  /// Measures a layer over local ranks, which divide the threads, and predicts it from the load that was seen.
  public static func run(_ problem: LayerProblem, on host: Cluster, execution: Execution) throws -> Trial {
    let ranks = problem.rankCount
    let threads = try Execution(
      instructionSet: execution.instructionSet, threadCount: max(execution.threadCount / ranks, 1))
    let measured = try LocalCommunicator.run(ranks: ranks) {
      try LayerMeasurement.spread(problem, over: $0, execution: threads, steps: 15)
    }[0]
    return Trial(
      problem: problem, measured: measured.step,
      predicted: try predict(problem, load: measured.load, on: host).seconds)
  }

  /// The prediction alone.
  static func predict(_ problem: LayerProblem, load: [Double], on host: Cluster) throws(PlanError) -> Prediction {
    var host = host
    (host.hostCount, host.ranksPerHost) = (1, problem.rankCount)
    let model = try ModelShape(
      expertCount: problem.expertCount, expertsPerToken: problem.expertsPerToken,
      hiddenSize: problem.hiddenSize, feedForwardSize: problem.feedForwardSize, isGated: problem.isGated,
      hasAttention: false)
    var workload = Workload(tokenCount: problem.tokenCount)
    workload.optimizer = .none
    workload.gradientSum = .exact
    workload.seed = nil
    return try Planner(model: model, workload: workload, cluster: host, load: .measured([load])).predict(
      Split(expertParallel: problem.rankCount))
  }
}
