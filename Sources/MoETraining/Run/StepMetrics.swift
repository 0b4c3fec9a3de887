internal import Foundation

/// What one step did: a line of `metrics.jsonl`.
public struct StepMetrics: Codable, Sendable, Equatable {
  /// A Mixture-of-Experts layer's part.
  public struct Layer: Codable, Sendable, Equatable {
    /// The layer's index.
    public var layer: Int
    /// Choices of each expert, before dropping.
    public var load: [Int64]
    /// Choices dropped.
    public var dropped: Int
    /// −Σ p·ln p of the load, in nats.
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
  }

  /// The version of the line.
  public var format = 1
  /// From 1.
  public var step: Int
  /// Bytes trained on so far.
  public var tokens: Int
  /// Mean cross-entropy in nats a byte.
  public var loss: Double
  /// The routers' losses together.
  public var auxiliaryLoss: Double
  /// That of parameters outside the experts.
  public var learningRate: Double
  /// Norms before clipping.
  public var gradientNorm: GradientNorm
  /// Of the whole step, without validation and checkpoint.
  public var seconds: Double
  /// Bytes trained on in a second of this step.
  public var tokensPerSecond: Double
  /// Seconds of each part.
  public var stages: [String: Double]
  /// One entry a Mixture-of-Experts layer.
  public var layers: [Layer]
  /// Mean cross-entropy over the held-out sequences, where it was measured.
  public var validationLoss: Double?

  enum CodingKeys: String, CodingKey {
    case format, step, tokens, loss, seconds, stages, layers
    case auxiliaryLoss = "auxiliary_loss"
    case learningRate = "learning_rate"
    case gradientNorm = "gradient_norm"
    case tokensPerSecond = "tokens_per_second"
    case validationLoss = "validation_loss"
  }
}

/// What a load says of balance.
public enum ExpertLoad {
  /// −Σ p·ln p of the shares, in nats: ln E where all are equal.
  public static func entropy(_ load: [Int64]) -> Double {
    let total = Double(load.reduce(0, +))
    return load.reduce(0) { sum, count in
      let share = Double(count) / max(total, 1)
      return count > 0 ? sum - share * log(share) : sum
    }
  }

  /// The standard deviation over the mean: 0 where all are equal.
  public static func variation(_ load: [Int64]) -> Double {
    let mean = Double(load.reduce(0, +)) / Double(max(load.count, 1))
    if mean == 0 { return 0 }
    let squares = load.reduce(0) { $0 + (Double($1) - mean) * (Double($1) - mean) }
    return (squares / Double(load.count)).squareRoot() / mean
  }
}
