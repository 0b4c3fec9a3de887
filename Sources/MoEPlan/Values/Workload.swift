/// What is computed in a step, besides the model's sizes.
public struct Workload: Sendable, Equatable, Codable {
  /// What an optimizer keeps of each parameter, and how much memory its step touches.
  public enum Optimizer: String, Sendable, Codable, CaseIterable {
    /// Two moments: 8 bytes a parameter; reads and writes parameter and moments, and reads the gradient.
    case adamw
    /// A momentum: 4 bytes a parameter.
    case sgd
    /// Sums of rows and columns, which are neglected beside the parameters.
    case adafactor
    /// No step at all, as in inference.
    case none

    /// Bytes kept of a parameter.
    public var stateBytes: Int {
      switch self {
      case .adamw: 8
      case .sgd: 4
      case .adafactor, .none: 0
      }
    }

    /// Bytes a step reads and writes of a parameter: it, its gradient, which is also set to zero, and its state.
    var touchedBytes: Int { self == .none ? 0 : 16 + 2 * stateBytes }
  }

  /// How gradients of parameters on several ranks become those of the batch, as `ExpertParallelLayer.GradientSum`.
  public enum GradientSum: String, Sendable, Codable, CaseIterable {
    /// Rank after rank, with the bits of one rank.
    case exact
    /// An all-reduce.
    case reduced
  }

  /// T, the tokens of a step over all ranks.
  public var tokenCount: Int
  /// Tokens of a sequence, which attention's scores depend on.
  public var sequenceLength = 1024
  /// Whether the step has a backward pass.
  public var trains = true
  /// What keeps moments.
  public var optimizer = Optimizer.adamw
  /// Bytes of a parameter where the networks are computed: 4, or 2 with fp32 masters beside them while training.
  public var parameterBytes = 4
  /// Bytes of a value that travels.
  public var payloadBytes = 4
  /// Whether the backward pass computes the activations again.
  public var recomputes = false
  /// Rows of an expert as a multiple of T·K/E; nil drops nothing.
  public var capacityFactor: Double?
  /// How gradients are added over ranks.
  public var gradientSum = GradientSum.reduced
  /// The seed that loads are drawn with; nil takes their expectation.
  public var seed: UInt64? = 1

  /// A step over so many tokens.
  public init(tokenCount: Int) { self.tokenCount = tokenCount }

  /// Checks every number.
  ///
  /// - Throws: ``PlanError`` naming the one that cannot be.
  public func validate() throws(PlanError) {
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
