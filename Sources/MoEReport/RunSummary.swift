internal import MoERun

/// The final figures of a run in a few numbers, as the page's table has them.
public struct RunSummary {
  /// The run's folder.
  public let name: String
  /// Its arrangement of experts.
  public let preset: String
  /// E of each Mixture-of-Experts layer.
  public let experts: [Int]
  /// Steps done.
  public let steps: Int
  /// Parameters in all.
  public let parameters: Int
  /// Those that work on a byte.
  public let activeParameters: Int
  /// Nats per byte, the mean of the last tenth of the steps.
  public let trainingLoss: Double
  /// Nats per byte of the newest validation; nil where there was none.
  public let validationLoss: Double?
  /// Median over steps.
  public let tokensPerSecond: Double

  /// Reads them off a run.
  public init(_ run: RecordedRun) {
    let facts = RunFacts(run)
    name = run.name
    preset = run.description.preset
    experts = facts.layers.map(\.experts)
    steps = facts.steps
    parameters = run.description.parameters.total
    activeParameters = run.description.parameters.activePerToken
    trainingLoss = facts.finalLoss
    validationLoss = facts.validation?.last
    tokensPerSecond = facts.tokensPerSecond
  }
}
