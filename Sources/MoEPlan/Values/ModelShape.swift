/// The sizes of a model with experts on which its costs depend.
public struct ModelShape: Sendable, Equatable, Codable {
  /// E, the number of experts of a layer.
  public var expertCount: Int
  /// K, the number of experts per token.
  public var expertsPerToken: Int
  /// D, the width of a token.
  public var hiddenSize: Int
  /// F, the width inside an expert.
  public var feedForwardSize: Int
  /// The number of layers with experts.
  public var layerCount: Int
  /// Whether an expert has a gate projection, and so three matrices of D × F instead of two.
  public var isGated = true
  /// F of a dense branch beside the experts, or 0 if there is none.
  public var sharedFeedForwardSize = 0
  /// Whether each layer also has attention, with four matrices of D × D.
  public var hasAttention = true
  /// V, the rows of the embedding, which is also the output projection, or 0 if there is none.
  public var vocabularySize = 0

  /// Makes a description and checks it.
  ///
  /// - Throws: ``PlanError`` that names the size that is out of range.
  public init(
    expertCount: Int, expertsPerToken: Int, hiddenSize: Int, feedForwardSize: Int, layerCount: Int = 1,
    isGated: Bool = true, sharedFeedForwardSize: Int = 0, hasAttention: Bool = true, vocabularySize: Int = 0
  ) throws(PlanError) {
    self.expertCount = expertCount
    self.expertsPerToken = expertsPerToken
    self.hiddenSize = hiddenSize
    self.feedForwardSize = feedForwardSize
    self.layerCount = layerCount
    self.isGated = isGated
    self.sharedFeedForwardSize = sharedFeedForwardSize
    self.hasAttention = hasAttention
    self.vocabularySize = vocabularySize
    for (name, size, range) in [
      ("the number of experts", expertCount, 1...1 << 16), ("the hidden size", hiddenSize, 1...1 << 20),
      ("the feed-forward size", feedForwardSize, 1...1 << 20),
      ("the number of layers", layerCount, 1...1 << 12),
      ("the dense branch's feed-forward size", sharedFeedForwardSize, 0...1 << 20),
      ("the vocabulary", vocabularySize, 0...1 << 24),
    ] {
      try require(
        range.contains(size), "\(name) is \(size), expected \(range.lowerBound) to \(range.upperBound)")
    }
    try require(
      (1...expertCount).contains(expertsPerToken),
      "a token passes \(expertsPerToken) of \(expertCount) experts, expected 1 to \(expertCount)")
    try require(
      expertCount * expertsPerToken <= 1 << 22,
      "a token passes \(expertsPerToken) of \(expertCount) experts, expected at most \((1 << 22) / expertCount): "
        + "the tables of probabilities have E × K entries")
    // The shared parameters fit an Int, because each factor is checked. The product over all experts may not.
    let count =
      Double(layerCount) * Double(expertCount) * Double(expertParameters) + Double(sharedParameters)
    try require(count <= 1e16, "the model has \(count) parameters, expected at most 10^16")
  }

  /// The number of matrices of D × F in an expert.
  var matrixCount: Int { isGated ? 3 : 2 }
  /// The parameters of one expert.
  package var expertParameters: Int { matrixCount * hiddenSize * feedForwardSize }
  /// The parameters of a layer's router: E·D.
  package var routerParameters: Int { expertCount * hiddenSize }
  /// The parameters of a layer that every rank holds besides the router: attention, its norms and the dense branch.
  package var denseParameters: Int {
    (hasAttention ? 4 * hiddenSize * hiddenSize + 2 * hiddenSize : 0)
      + matrixCount * hiddenSize * sharedFeedForwardSize
  }
  /// The parameters that every rank holds.
  package var sharedParameters: Int {
    layerCount * (routerParameters + denseParameters) + vocabularySize * hiddenSize
  }
  /// All parameters of the model.
  public var parameters: Int { layerCount * expertCount * expertParameters + sharedParameters }
}
