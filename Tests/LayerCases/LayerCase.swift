public import MoECore

/// A random layer problem, small enough to print: its sizes, temperament and policy, all drawn from one seed.
public struct LayerCase: Shrinkable, CustomStringConvertible {
  /// Sizes at the boundaries of the kernels' tiles, and the sizes one below and one above.
  public static let boundarySizes = [1, 2, 3, 5, 6, 7, 11, 12, 13, 15, 16, 17, 31, 32, 33, 47, 48, 49]
  /// Numbers of experts: primes and composite numbers, at the widths of vectors and one below and above.
  public static let expertCounts = [1, 2, 3, 4, 5, 7, 8, 9, 12, 15, 16, 17, 32]

  /// The seed of the numbers. The sizes below may be smaller than those drawn from the seed, because of shrinking.
  public let seed: UInt64
  /// The number of sequences.
  public var batchSize: Int
  /// The number of tokens of each sequence.
  public var sequenceLength: Int
  /// E, the number of experts.
  public var expertCount: Int
  /// K, the number of experts per token.
  public var expertsPerToken: Int
  /// D, the hidden size.
  public var hiddenSize: Int
  /// F, the feed-forward size.
  public var feedForwardSize: Int
  /// The range of the numbers and the distribution of the tokens over the experts.
  public var temperament: Temperament
  /// The routing policy.
  public var policy: RoutingPolicy
  /// The activation of the experts and of the dense branch.
  public var activation: ActivationFunction
  /// The dense branch, if any. A random case gives it a feed-forward size one larger than that of the experts.
  public var denseBranch: MoEConfiguration.DenseBranch?
  /// Whether router, experts and gates have biases.
  public var hasBiases: Bool
  /// Whether the router has a selection bias.
  public var hasSelectionBias: Bool
  /// Whether about a quarter of the tokens are masked.
  public var isMasked: Bool

  /// T, the number of tokens.
  public var tokenCount: Int { batchSize * sequenceLength }

  /// Makes the random case that belongs to `seed`.
  public init(seed: UInt64) {
    var generator = SeededGenerator(seed: seed)
    self.seed = seed
    batchSize = Int.random(in: 1...3, using: &generator)
    sequenceLength = generator.pick(Self.boundarySizes)
    expertCount = generator.pick(Self.expertCounts)
    expertsPerToken = Int.random(in: 1...min(expertCount, 4), using: &generator)
    hiddenSize = generator.pick(Self.boundarySizes)
    feedForwardSize = generator.pick(Self.boundarySizes)
    temperament = generator.pick(Temperament.allCases)
    policy = .random(expertCount: expertCount, expertsPerToken: expertsPerToken, using: &generator)
    activation = generator.pick(ActivationFunction.samples)
    let branchSize = feedForwardSize + 1
    denseBranch = generator.pick([
      nil, nil, .shared(feedForwardSize: branchSize), .gatedShared(feedForwardSize: branchSize),
      .residual(feedForwardSize: branchSize),
    ])
    hasBiases = Bool.random(using: &generator)
    hasSelectionBias = policy.comparesBiasedScores && Bool.random(using: &generator)
    isMasked = Int.random(in: 0..<4, using: &generator) == 0
  }

  /// Makes a case for tests of one stage: one sequence, and no dense branch, biases, selection bias or mask.
  public init(
    seed: UInt64, tokenCount: Int, expertCount: Int, expertsPerToken: Int, hiddenSize: Int,
    feedForwardSize: Int, temperament: Temperament = .uniform, policy: RoutingPolicy = .topKSoftmax,
    activation: ActivationFunction = .swiGLU
  ) {
    self.seed = seed
    batchSize = 1
    sequenceLength = tokenCount
    self.expertCount = expertCount
    self.expertsPerToken = expertsPerToken
    self.hiddenSize = hiddenSize
    self.feedForwardSize = feedForwardSize
    self.temperament = temperament
    self.policy = policy
    self.activation = activation
    (denseBranch, hasBiases, hasSelectionBias, isMasked) = (nil, false, false, false)
  }

  /// The sizes and flags on one line; the policy, the activation and the dense branch on the next line.
  public var description: String {
    """
    seed \(seed): B \(batchSize) S \(sequenceLength) E \(expertCount) K \(expertsPerToken) D \(hiddenSize) \
    F \(feedForwardSize), \(temperament.rawValue)\(hasBiases ? ", biases" : "")\
    \(hasSelectionBias ? ", selection bias" : "")\(isMasked ? ", masked" : "")
    \(policy), \(activation), dense branch \(denseBranch.map { "\($0)" } ?? "none")
    """
  }

  /// The cases with one size halved or one feature left out, except those that `MoEConfiguration` rejects.
  public var smaller: [LayerCase] {
    let steps: [(inout LayerCase) -> Void] = [
      { $0.batchSize /= 2 }, { $0.sequenceLength /= 2 }, { $0.expertCount /= 2 },
      { $0.expertsPerToken /= 2 }, { $0.hiddenSize /= 2 }, { $0.feedForwardSize /= 2 },
      { $0.denseBranch = nil }, { $0.hasBiases = false }, { $0.hasSelectionBias = false },
      { $0.isMasked = false }, { $0.policy.capacity = nil }, { $0.policy.groups = nil },
      { $0.policy.normalization = .none }, { $0.policy.scale = 1 }, { $0.temperament = .uniform },
    ]
    return steps.compactMap { step in
      var candidate = self
      step(&candidate)
      let isPossible =
        candidate.tokenCount > 0 && candidate != self && (try? candidate.configuration()) != nil
      return isPossible ? candidate : nil
    }
  }
}
