/// The definition of what a Mixture-of-Experts layer computes. `Execution` defines how it is computed.
public struct MoEConfiguration: Sendable, Equatable {
  /// A dense feed-forward network beside the experts, which every token passes.
  public enum DenseBranch: Sendable, Equatable {
    /// The branch is added to the experts' sum (DeepSeek's shared experts, concatenated).
    case shared(feedForwardSize: Int)
    /// The branch is multiplied by σ(x·wᵀ) and then added to the experts' sum (Qwen2-MoE's shared expert).
    case gatedShared(feedForwardSize: Int)
    /// output = c₀·experts + c₁·dense with c = softmax(x·Wᵀ + b) (DeepSpeed-MoE §4.1, PR-MoE).
    case residual(feedForwardSize: Int)

    /// The feed-forward size F of the branch.
    public var feedForwardSize: Int {
      switch self {
      case .shared(let size), .gatedShared(let size), .residual(let size): size
      }
    }

    /// The number of rows of the branch's gate: none, one (sigmoid) or two (softmax).
    public var gateRows: Int {
      switch self {
      case .shared: 0
      case .gatedShared: 1
      case .residual: 2
      }
    }
  }

  /// D, the number of elements of a token.
  public let hiddenSize: Int
  /// F, the number of hidden elements inside an expert.
  public let feedForwardSize: Int
  /// E, the number of experts.
  public let expertCount: Int
  /// K, the number of experts per token.
  public let expertsPerToken: Int
  /// The function that an expert applies between its matrix products.
  public let activation: ActivationFunction
  /// The policy that chooses the experts of each token.
  public let routing: RoutingPolicy
  /// The dense network beside the experts, if any.
  public let denseBranch: DenseBranch?

  /// Checks the sizes once, so that a layer made from this value need not check them again.
  ///
  /// - Throws: ``MoEError/invalidConfiguration(_:)`` naming the value that cannot be honoured.
  public init(
    hiddenSize: Int, feedForwardSize: Int, expertCount: Int, expertsPerToken: Int,
    activation: ActivationFunction = .swiGLU, routing: RoutingPolicy = .softmaxTopK(normalized: true),
    denseBranch: DenseBranch? = nil
  ) throws(MoEError) {
    let limit = 1 << 24
    for (name, size) in [
      ("the hidden size", hiddenSize), ("the feed-forward size", feedForwardSize),
      ("the number of experts", expertCount),
      ("the dense branch's feed-forward size", denseBranch?.feedForwardSize ?? 1),
    ] where size < 1 || size > limit {
      throw .invalidConfiguration("\(name) is \(size), expected 1 to \(limit)")
    }
    // The dense branch is one network of limited sizes; only the experts' product can be too large.
    _ = try product(
      of: [expertCount, hiddenSize, feedForwardSize], atMost: 1 << 56,
      "\(expertCount) experts of the sizes \(hiddenSize) and \(feedForwardSize) have too many parameters")
    try routing.validate(expertCount: expertCount, expertsPerToken: expertsPerToken)
    if routing.assignment == .hash {
      throw .invalidConfiguration("a layer sees no token ids, so they cannot choose its experts")
    }
    if routing.noise.logits == .learned {
      throw .unsupported("noise on the logits whose size is learned, in a layer")
    }
    if case .soft = routing.assignment {
      throw .unsupported("a layer whose experts compute weighted means of all tokens (Soft MoE)")
    }
    if case .clampedSwiGLU(let alpha, let limit) = activation, !(limit > 0 && alpha.isFinite) {
      throw .invalidConfiguration("a clamped SwiGLU with alpha \(alpha) and limit \(limit) has no meaning")
    }
    self.hiddenSize = hiddenSize
    self.feedForwardSize = feedForwardSize
    self.expertCount = expertCount
    self.expertsPerToken = expertsPerToken
    self.activation = activation
    self.routing = routing
    self.denseBranch = denseBranch
  }
}
