import Foundation
import MoE
package import MoECore

/// The sizes of a random layer whose forward and backward passes are measured.
package struct LayerProblem: Sendable, Equatable {
  /// E.
  package var expertCount: Int
  /// K.
  package var expertsPerToken: Int
  /// D.
  package var hiddenSize: Int
  /// F.
  package var feedForwardSize: Int
  /// T.
  package var tokenCount: Int
  /// R.
  package var rankCount: Int
  /// Whether an expert has a gate projection.
  package var isGated = true
  /// The router's bias of expert e is −`skew`·ln(e + 1), so that loads fall as in Zipf's law.
  package var skew: Float = 0

  package init(
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

  /// The floating-point operations of the experts in a forward pass.
  var operations: Double {
    Double(2 * tokenCount * expertsPerToken * (isGated ? 3 : 2) * hiddenSize) * Double(feedForwardSize)
  }
}
