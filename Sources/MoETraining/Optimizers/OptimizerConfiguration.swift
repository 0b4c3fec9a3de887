public import MoE

/// An optimizer's rule and its constants.
public struct OptimizerConfiguration: Codable, Sendable, Equatable {
  /// The rules.
  public enum Kind: String, Codable, Sendable, CaseIterable {
    case adamw, adafactor, sgd
  }

  /// The rule.
  public var kind: Kind
  /// λ, the weight decay of the parameters that decay.
  public var weightDecay: Double
  /// β₁ of AdamW: the share of the mean gradient that a step keeps.
  public var beta1 = 0.9
  /// β₂ of AdamW: the share of the mean square that a step keeps.
  public var beta2 = 0.95
  /// ε of AdamW, added to the root of the mean square.
  public var epsilon = 1e-8
  /// μ of SGD, or β₁ of Adafactor, which is 0 in its paper.
  public var momentum: Double
  /// Whether SGD uses Nesterov's momentum.
  public var nesterov = false
  /// d of Adafactor: the largest root mean square of an update.
  public var updateClip = 1.0
  /// Whether Adafactor's step is min(10⁻², 1/√t) in place of the learning rate.
  public var relativeStep = false
  /// Whether Adafactor's step is multiplied by the root mean square of the matrix.
  public var scalesByParameter = true

  /// Makes a rule with the constants of its paper, or with those that are common for language models.
  public init(_ kind: Kind, weightDecay: Double = 0) {
    self.kind = kind
    self.weightDecay = weightDecay
    momentum = kind == .sgd ? 0.9 : 0
  }

  /// The learning rate of the rule where none is given.
  public var usualLearningRate: Double {
    switch kind {
    case .adamw: 1e-3
    case .adafactor: 1e-2
    case .sgd: 0.1
    }
  }

  /// Checks every constant.
  ///
  /// - Throws: `MoEError.invalidConfiguration` naming the constant that cannot be used.
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

  /// Makes the optimizer of some parameters, at step 0.
  ///
  /// - Throws: `MoEError` for constants that cannot be used, or where memory is missing.
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
