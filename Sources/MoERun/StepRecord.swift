/// One line of `metrics.jsonl`: the measurements of one training step.
public struct StepRecord: Codable, Sendable, Equatable {
  /// One Mixture-of-Experts layer in this step.
  public struct Layer: Codable, Sendable, Equatable {
    /// The layer's index in the model.
    public var layer: Int
    /// `[E]`: the number of choices of each expert, before any is dropped.
    public var load: [Int]
    /// The number of choices that a capacity dropped.
    public var dropped: Int
    /// The entropy −Σ p·ln p of the load's shares p, in nats; ln E where the load is balanced.
    public var entropy: Double
    /// The load-balance loss, coefficient included.
    public var balanceLoss: Double
    /// The z-loss, coefficient included.
    public var zLoss: Double

    enum CodingKeys: String, CodingKey {
      case layer, load, dropped, entropy
      case balanceLoss = "balance_loss"
      case zLoss = "z_loss"
    }

    /// Collects the values of a layer.
    package init(
      layer: Int, load: [Int], dropped: Int, entropy: Double, balanceLoss: Double, zLoss: Double
    ) {
      self.layer = layer
      self.load = load
      self.dropped = dropped
      self.entropy = entropy
      self.balanceLoss = balanceLoss
      self.zLoss = zLoss
    }
  }

  /// Euclidean norms of the gradients, before clipping.
  public struct Norms: Codable, Sendable, Equatable {
    /// The norm over all parameters.
    public var all: Double
    /// The norm over the routed experts.
    public var expert: Double
    /// The norm over all other parameters.
    public var other: Double

    /// Collects the three norms.
    package init(all: Double, expert: Double, other: Double) {
      (self.all, self.expert, self.other) = (all, expert, other)
    }
  }

  /// The version of the line; nil in lines that were written before lines named it.
  public var format: RunFormat? = RunFormat()
  /// The number of the step, from 1.
  public var step: Int
  /// The number of bytes trained on up to the end of this step.
  public var tokens: Int
  /// Mean cross-entropy, in nats per byte.
  public var loss: Double
  /// The sum of the routers' losses, coefficients included.
  public var auxiliaryLoss: Double
  /// The learning rate of parameters outside the experts.
  public var learningRate: Double
  /// The norms of the gradients before clipping.
  public var gradientNorm: Norms
  /// Seconds of the whole step, without validation and checkpoint.
  public var seconds: Double
  /// Bytes per second of this step.
  public var tokensPerSecond: Double
  /// Seconds of each stage.
  public var stages: [String: Double]
  /// One entry per Mixture-of-Experts layer.
  public var layers: [Layer] = []
  /// Mean cross-entropy over the held-out sequences, in nats per byte; nil at steps without validation.
  public var validationLoss: Double?

  enum CodingKeys: String, CodingKey {
    case format, step, tokens, loss, seconds, stages, layers
    case auxiliaryLoss = "auxiliary_loss"
    case learningRate = "learning_rate"
    case gradientNorm = "gradient_norm"
    case tokensPerSecond = "tokens_per_second"
    case validationLoss = "validation_loss"
  }

  /// Collects the values of a step without layers and validation.
  package init(
    step: Int, tokens: Int, loss: Double, auxiliaryLoss: Double, learningRate: Double, gradientNorm: Norms,
    seconds: Double, tokensPerSecond: Double, stages: [String: Double]
  ) {
    self.step = step
    self.tokens = tokens
    self.loss = loss
    self.auxiliaryLoss = auxiliaryLoss
    self.learningRate = learningRate
    self.gradientNorm = gradientNorm
    self.seconds = seconds
    self.tokensPerSecond = tokensPerSecond
    self.stages = stages
  }
}
