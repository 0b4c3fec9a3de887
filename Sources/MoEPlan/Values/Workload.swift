/// The work of a step, besides the model's sizes.
public struct Workload: Sendable, Equatable, Codable {
  /// The optimizer, which decides how much memory it keeps per parameter and how much its step touches.
  public enum Optimizer: String, Sendable, Codable, CaseIterable {
    /// Two moments, 8 bytes per parameter. A step reads and writes parameter and moments, and reads the gradient.
    case adamw
    /// One momentum, 4 bytes per parameter.
    case sgd
    /// Sums over rows and columns, which are small beside the parameters and are not counted.
    case adafactor
    /// No optimizer, as in inference.
    case none

    /// The bytes that the optimizer keeps per parameter.
    package var stateBytes: Int {
      switch self {
      case .adamw: 8
      case .sgd: 4
      case .adafactor, .none: 0
      }
    }

    /// The bytes that a step reads and writes per parameter: the parameter, its gradient, which is also set to zero,
    /// and its state.
    var touchedBytes: Int { self == .none ? 0 : 16 + 2 * stateBytes }
  }

  /// How the gradients of several ranks are added, as in `ExpertParallelLayer.GradientSum`.
  public enum GradientSum: String, Sendable, Codable, CaseIterable {
    /// One rank after another, with the bits of one rank.
    case exact
    /// By an all-reduce.
    case reduced
  }

  /// T, the number of tokens of a step over all ranks.
  public var tokenCount: Int
  /// The number of tokens of a sequence, on which the cost of attention's scores depends.
  public var sequenceLength = 1024
  /// Whether the step has a backward pass.
  public var trains = true
  /// The optimizer.
  public var optimizer = Optimizer.adamw
  /// The bytes of a parameter in the networks' products: 4, or 2, which needs fp32 masters beside them in training.
  public var parameterBytes = 4
  /// The bytes of a value that travels.
  public var payloadBytes = 4
  /// Whether the backward pass computes the activations again instead of keeping them.
  public var recomputes = false
  /// The capacity of an expert as a multiple of T·K/E; nil if nothing is dropped.
  public var capacityFactor: Double?
  /// How the gradients of several ranks are added.
  public var gradientSum = GradientSum.reduced
  /// The seed with which loads are drawn; nil for expected loads.
  public var seed: UInt64? = 1

  /// Describes a training step over `tokenCount` tokens with AdamW in fp32.
  public init(tokenCount: Int) { self.tokenCount = tokenCount }

  /// Checks every number.
  ///
  /// - Throws: ``PlanError`` that names the value that is out of range.
  package func validate() throws(PlanError) {
    try require((1...1 << 40).contains(tokenCount), "a step has \(tokenCount) tokens, expected 1 to 2^40")
    try require(
      (1...1 << 24).contains(sequenceLength), "a sequence has \(sequenceLength) tokens, expected 1 to 2^24")
    for (name, bytes) in [("a parameter", parameterBytes), ("a value that travels", payloadBytes)] {
      try require(bytes == 2 || bytes == 4, "\(name) has \(bytes) bytes, expected 2 or 4")
    }
    if let factor = capacityFactor {
      try require(
        factor >= 0.001 && factor <= 1e6, "the capacity factor is \(factor), expected 0.001 to 1000000")
    }
  }
}
