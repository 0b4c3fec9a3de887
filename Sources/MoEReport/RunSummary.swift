internal import MoERun

/// The final figures of a run, as in the page's table.
public struct RunSummary {
  /// The run's folder.
  public let name: String
  /// The preset, which says how experts are arranged.
  public let preset: String
  /// The number of experts of each Mixture-of-Experts layer.
  public let experts: [Int]
  /// The number of steps.
  public let steps: Int
  /// The number of all parameters.
  public let parameters: Int
  /// The number of parameters that are used for one byte.
  public let activeParameters: Int
  /// The training loss in nats per byte, the mean of the last tenth of the steps.
  public let trainingLoss: Double
  /// The loss of the newest validation in nats per byte; nil if there was no validation.
  public let validationLoss: Double?
  /// The median over steps.
  public let tokensPerSecond: Double

  /// Takes the figures from a run.
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
