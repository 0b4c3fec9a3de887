public import MoE

/// Which optimizer, and its constants.
public struct OptimizerConfiguration: Codable, Sendable, Equatable {
  /// A rule.
  public enum Kind: String, Codable, Sendable, CaseIterable {
    case adamw, adafactor, sgd
  }

  /// The rule.
  public var kind: Kind
  /// λ, of the parameters that decay.
  public var weightDecay: Double
  /// β₁ of AdamW: how much of the mean gradient stays.
  public var beta1 = 0.9
  /// β₂ of AdamW: how much of the mean square stays.
  public var beta2 = 0.95
  /// ε of AdamW, beside the root of the mean square.
  public var epsilon = 1e-8
  /// μ of SGD, β₁ of Adafactor, whose paper leaves it at 0.
  public var momentum: Double
  /// Whether SGD looks a step ahead.
  public var nesterov = false
  /// d of Adafactor: the root mean square an update may have.
  public var updateClip = 1.0
  /// Whether Adafactor's step is min(10⁻², 1/√t) in place of the learning rate.
  public var relativeStep = false
  /// Whether Adafactor's step is a share of the root mean square of the matrix.
  public var scalesByParameter = true

  /// The rule with the constants its paper, or common use with language models, gives it.
  public init(_ kind: Kind, weightDecay: Double = 0) {
    self.kind = kind
    self.weightDecay = weightDecay
    momentum = kind == .sgd ? 0.9 : 0
  }

  /// The learning rate to begin with where none is given.
  public var usualLearningRate: Double {
    switch kind {
    case .adamw: 1e-3
    case .adafactor: 1e-2
    case .sgd: 0.1
    }
  }

  /// Checks every constant.
  ///
  /// - Throws: `MoEError.invalidConfiguration` naming the one that cannot be honoured.
  public func validate() throws(MoEError) {
    for (name, value, range) in [
      ("weight decay", weightDecay, 0...1e6), ("β₁", beta1, 0...0.999_999), ("β₂", beta2, 0...0.999_999_9),
      ("momentum", momentum, 0...0.999_999), ("ε", epsilon, 1e-30...1),
      ("update clip", updateClip, 1e-6...1e6),
    ] where !range.contains(value) {
      throw .invalidConfiguration(
        "the optimizer's \(name) is \(value), expected \(range.lowerBound) to \(range.upperBound)")
    }
  }

  /// The optimizer of some parameters, with nothing remembered yet.
  ///
  /// - Throws: `MoEError` for constants that cannot be honoured, or where there is no memory.
  public func optimizer(
    of parameters: [Parameter], execution: Execution
  ) throws(MoEError) -> any Optimizer {
    try validate()
    switch kind {
    case .adamw: return try AdamW(parameters, self, execution: execution)
    case .adafactor: return try Adafactor(parameters, self, execution: execution)
    case .sgd: return try SGD(parameters, self, execution: execution)
    }
  }
}
