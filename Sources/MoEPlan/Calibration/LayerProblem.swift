import Foundation
import MoE
package import MoECore

/// A random layer and its size, measured by forward and backward passes.
public struct LayerProblem: Sendable, Equatable {
  /// E.
  public var expertCount: Int
  /// K.
  public var expertsPerToken: Int
  /// D.
  public var hiddenSize: Int
  /// F.
  public var feedForwardSize: Int
  /// T.
  public var tokenCount: Int
  /// R.
  public var rankCount: Int
  /// Whether an expert has a gate.
  public var isGated = true
  /// Added to the router's logits of expert e: −`skew`·ln(e + 1), so that loads fall like those of Zipf.
  public var skew: Float = 0

  /// Makes a problem.
  public init(
    experts: Int, top: Int, hidden: Int, inner: Int, tokens: Int, ranks: Int, isGated: Bool = true,
    skew: Float = 0
  ) {
    (expertCount, expertsPerToken, hiddenSize, feedForwardSize) = (experts, top, hidden, inner)
    (tokenCount, rankCount, self.isGated, self.skew) = (tokens, ranks, isGated, skew)
  }

  func configuration() throws(MoEError) -> MoEConfiguration {
    try MoEConfiguration(
      hiddenSize: hiddenSize, feedForwardSize: feedForwardSize, expertCount: expertCount,
      expertsPerToken: expertsPerToken, activation: isGated ? .swiGLU : .relu)
  }

  package func weights(seed: UInt64) throws(MoEError) -> MoEWeights {
    var weights = MoEWeights.random(for: try configuration(), seed: seed)
    if skew > 0 { weights.routerWeights.bias = (0..<expertCount).map { -skew * Float(log(Double($0 + 1))) } }
    return weights
  }

  /// Operations of the forward pass's products with the experts.
  var operations: Double {
    Double(2 * tokenCount * expertsPerToken * (isGated ? 3 : 2) * hiddenSize) * Double(feedForwardSize)
  }
}
