/// The final figures of a run in a few numbers, as the page's table has them.
public struct RunSummary {
  /// The run's folder, its preset and the experts of each Mixture-of-Experts layer.
  public let name: String
  public let preset: String
  public let experts: [Int]
  /// Steps done.
  public let steps: Int
  /// Parameters in all, and those that work on a byte.
  public let parameters: Int
  public let activeParameters: Int
  /// Nats per byte: the mean of the last tenth of the steps, and the newest validation.
  public let trainingLoss: Double
  public let validationLoss: Double?
  /// Median over steps.
  public let tokensPerSecond: Double

  /// Reads them off a run.
  public init(_ run: RunFolder) {
    let facts = RunFacts(run)
    name = run.name
    preset = run.description.preset
    experts = facts.layers.map(\.experts)
    steps = facts.steps
    parameters = run.description.parameters.total
    activeParameters = run.description.parameters.active
    trainingLoss = facts.finalLoss
    validationLoss = facts.validation?.last
    tokensPerSecond = facts.tokensPerSecond
  }
}
