public import MoE

/// The sizes and layers of a decoder-only transformer over bytes. It has no settings of training.
///
/// Each layer is x += attention(norm(x)), x += feedForward(norm(x)) with RMSNorm (Zhang and Sennrich 2019) and rotary
/// positions (Su et al. 2021). The embedding is multiplied by √D as input, and is also the output projection.
public struct ModelConfiguration: Codable, Sendable, Equatable {
  /// V, the number of tokens: one per value of a byte.
  public var vocabularySize = 256
  /// S, the longest sequence.
  public var contextLength: Int
  /// D, the width of the residual stream.
  public var hiddenSize: Int
  /// The number of attention heads; D/heads is even.
  public var headCount: Int
  /// The feed-forward block of each layer.
  public var blocks: [FeedForwardBlock]
  /// The base of the powers that give the rotary angles.
  public var rotaryBase = 10_000.0
  /// The number added to the mean square under the root of a norm.
  public var normEpsilon: Float = 1e-6

  /// Collects the sizes; ``validate()`` checks them.
  public init(contextLength: Int, hiddenSize: Int, headCount: Int, blocks: [FeedForwardBlock]) {
    self.contextLength = contextLength
    self.hiddenSize = hiddenSize
    self.headCount = headCount
    self.blocks = blocks
  }

  /// The number of layers, each with attention and a feed-forward block.
  public var layerCount: Int { blocks.count }

  /// Checks every size.
  ///
  /// - Throws: `MoEError.invalidConfiguration` naming the value that cannot be used.
  public func validate() throws(MoEError) {
    func require(_ condition: Bool, _ message: @autoclosure () -> String) throws(MoEError) {
      if !condition { throw .invalidConfiguration(message()) }
    }
    try require(vocabularySize == 256, "the vocabulary has \(vocabularySize) tokens, expected 256: bytes")
    try require(
      (2...1 << 16).contains(contextLength), "the context is \(contextLength), expected 2 to 65536")
    try require(
      hiddenSize % 32 == 0 && (32...1 << 16).contains(hiddenSize),
      "the hidden size is \(hiddenSize), expected a multiple of 32 up to 65536")
    try require(
      (1...hiddenSize / 2).contains(headCount) && hiddenSize % (2 * headCount) == 0,
      "\(headCount) heads do not divide a hidden size of \(hiddenSize) into even parts")
    try require((1...1024).contains(layerCount), "the model has \(layerCount) layers, expected 1 to 1024")
    try require(
      rotaryBase > 1 && rotaryBase.isFinite, "the rotary base is \(rotaryBase), expected more than 1")
    try require(
      normEpsilon > 0 && normEpsilon.isFinite, "the norm's epsilon is \(normEpsilon), expected more than 0")
    for block in blocks {
      for isTraining in [true, false] { _ = try block.layer(hiddenSize: hiddenSize, isTraining: isTraining) }
    }
    let parameters = parameterCount()
    try require(
      parameters <= Self.parameterLimit,
      "the model has \(parameters) parameters, expected at most \(Self.parameterLimit)")
  }

  /// The largest number of parameters of a model. Below it every product of sizes fits an `Int`.
  private static let parameterLimit = 1e15

  /// Returns the number of parameters, as a Double so that no size overflows.
  ///
  /// - Parameter shareOfExperts: the share of the experts that is counted, such as the share that one of several
  ///   ranks holds.
  func parameterCount(shareOfExperts: Double = 1) -> Double {
    blocks.reduce(Double(vocabularySize) * Double(hiddenSize)) {
      $0 + $1.parameterCount(hiddenSize: hiddenSize, shareOfExperts: shareOfExperts)
        + 4 * Double(hiddenSize) * Double(hiddenSize)
    }
  }

  /// The FLOPs of a forward pass per token, without attention scores: two per weight that a token passes.
  public var flopsPerToken: Int {
    let attention = 4 * hiddenSize * hiddenSize
    let blocks = blocks.reduce(0) { $0 + $1.activeParameters(hiddenSize: hiddenSize) }
    return 2 * (layerCount * attention + blocks + vocabularySize * hiddenSize)
  }
}

/// A feed-forward block. A dense network is a layer of one expert.
public struct FeedForwardBlock: Codable, Sendable, Equatable {
  /// The rules by which a router chooses experts for a token.
  public enum Routing: String, Codable, Sendable, CaseIterable {
    /// No choice: every token passes the one expert.
    case dense
    /// Switch Transformer §2.1.
    case switchTransformer = "switch"
    /// GShard Algorithm 1, GLaM.
    case gshardTop2 = "gshard-top2"
    /// DeepSpeed-MoE's top-1 gate.
    case deepSpeedTop1 = "deepspeed-top1"
    /// Mixtral: softmax, top-k, divided by the sum of the chosen probabilities.
    case mixtral
    /// DeepSeek-V3: sigmoid with a selection bias.
    case deepSeekV3 = "deepseek-v3"
  }

  /// The activation function of the networks.
  public enum Activation: String, Codable, Sendable, CaseIterable {
    case relu, gelu, swiglu

    var function: ActivationFunction {
      switch self {
      case .relu: .relu
      case .gelu: .gelu
      case .swiglu: .swiGLU
      }
    }
  }

  /// The rule by which the router chooses experts for a token.
  public var routing: Routing
  /// E, the number of experts.
  public var expertCount = 1
  /// K, the number of experts per token.
  public var expertsPerToken = 1
  /// F, the inner size of an expert.
  public var feedForwardSize: Int
  /// The activation function of the networks.
  public var activation: Activation
  /// F of the dense branch beside the experts (PR-MoE's residual, DeepSeek's shared expert); nil for no branch.
  public var denseBranch: Int?
  /// The capacity of an expert in training, as a multiple of an equal share of the rows; nil where nothing is
  /// dropped.
  public var capacityFactor: Double?
  /// The capacity factor in evaluation; nil where nothing is dropped.
  public var evaluationCapacityFactor: Double?
  /// α, the coefficient of the load-balance loss.
  public var balanceCoefficient: Float = 0
  /// c, the coefficient of the z-loss.
  public var zCoefficient: Float = 0
  /// ε of the noise in training on the router's own copy of its input: every element is multiplied by a uniform
  /// number of [1 − ε, 1 + ε].
  public var inputJitter: Float = 0
  /// γ, the rate of the update of the selection bias, where the router has one.
  public var biasRate: Float = 0
  /// Whether router, experts, dense branch and its gate have biases. These begin at 0, are trained, and do not decay.
  public var hasBiases: Bool {
    get { biases ?? false }
    set { biases = newValue ? true : nil }
  }
  /// nil stands for false, so that a run without biases has the description that earlier versions wrote and read.
  private var biases: Bool?

  /// Makes a block without losses, noise and capacities.
  public init(
    routing: Routing, expertCount: Int = 1, expertsPerToken: Int = 1, feedForwardSize: Int,
    activation: Activation
  ) {
    self.routing = routing
    self.expertCount = expertCount
    self.expertsPerToken = expertsPerToken
    self.feedForwardSize = feedForwardSize
    self.activation = activation
  }

  /// Whether a router chooses between experts.
  public var isMoE: Bool { routing != .dense }

  /// Returns the configuration of the layer that computes the block.
  ///
  /// - Throws: `MoEError.invalidConfiguration` naming the value that cannot be used.
  func layer(hiddenSize: Int, isTraining: Bool) throws(MoEError) -> MoEConfiguration {
    for (name, value) in [
      ("load-balance coefficient", balanceCoefficient), ("z-loss coefficient", zCoefficient),
      ("selection-bias rate", biasRate),
    ] where !(value >= 0 && value.isFinite) {
      throw .invalidConfiguration("the \(name) is \(value), expected at least 0")
    }
    guard inputJitter >= 0, inputJitter <= 1 else {
      throw .invalidConfiguration("the jitter of a router's input is \(inputJitter), expected 0 to 1")
    }
    if isMoE && expertCount < 2 {
      throw .invalidConfiguration(
        "\(routing.rawValue) routes between \(expertCount) experts, expected 2 or more")
    }
    guard isMoE || expertCount == 1 && expertsPerToken == 1 else {
      throw .invalidConfiguration(
        "a dense block has \(expertCount) experts, of which each token passes \(expertsPerToken), expected 1 of 1"
      )
    }
    for size in [feedForwardSize, denseBranch ?? 32] where size % 32 != 0 || size < 32 {
      throw .invalidConfiguration("a feed-forward size is \(size), expected a multiple of 32")
    }
    var policy = policy(isTraining: isTraining)
    policy.noise.inputJitter = inputJitter
    return try MoEConfiguration(
      hiddenSize: hiddenSize, feedForwardSize: feedForwardSize, expertCount: expertCount,
      expertsPerToken: expertsPerToken, activation: activation.function, routing: policy,
      denseBranch: denseBranch.map {
        routing == .deepSpeedTop1 ? .residual(feedForwardSize: $0) : .shared(feedForwardSize: $0)
      })
  }

  private func policy(isTraining: Bool) -> RoutingPolicy {
    let factor = isTraining ? capacityFactor : evaluationCapacityFactor
    switch routing {
    case .dense: return .softmaxTopK(normalized: false)
    case .switchTransformer:
      return .switchTransformer(capacity: factor.map { .meshTensorFlow(factor: $0) })
    case .gshardTop2: return .gshardTop2(capacity: factor.map { .lingvo(factor: $0) })
    case .deepSpeedTop1:
      return .switchTransformer(capacity: factor.map { .deepSpeed(factor: $0, minimum: 4) })
    case .mixtral: return .softmaxTopK(normalized: true)
    case .deepSeekV3: return .deepseekV3(groups: 1, selectedGroups: 1, normalized: true, scale: 1)
    }
  }

  /// Returns the number of weights of the block, including the router's.
  fileprivate func parameterCount(hiddenSize: Int, shareOfExperts: Double) -> Double {
    let matrices: Double = activation == .swiglu ? 3 : 2
    let widths = shareOfExperts * Double(expertCount) * Double(feedForwardSize) + Double(denseBranch ?? 0)
    return Double(hiddenSize) * (matrices * widths + Double(expertCount))
  }

  /// Returns the number of weights that a token passes, without the router's.
  func activeParameters(hiddenSize: Int) -> Int {
    let matrices = activation == .swiglu ? 3 : 2
    return matrices * hiddenSize * (expertsPerToken * feedForwardSize + (denseBranch ?? 0))
  }
}
