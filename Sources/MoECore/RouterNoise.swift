/// Noise of the router in training.
///
/// Each draw depends on the seed, the token's index in the whole batch and the place within the token alone, so that
/// neither the number of threads nor the split into micro-batches changes it. Every training step takes a new seed.
///
/// - SparseMixer (`RoutingPolicy.Scoring.sparseMixer`) samples: of the experts that share a choice, the one whose logit
///   plus Gumbel noise is largest, so that each is sampled with its softmax share. The weight is that share, times 1/3
///   with probability 3/4 unless the sampled expert is also the best. Backward, the gradient of the weight goes to the
///   logits by the Jacobian of the shares and passes over the factor: Heun's third-order estimator (Liu et al. 2023,
///   "Sparse Backpropagation for MoE Training"; in this form the router that Phi-3.5-MoE publishes, with 1/3 exact).
///   Not reproduced: the mid-point estimator of that paper, and the source's own stream of random numbers.
/// - Any other scoring has no noise of its own.
/// - ``inputJitter`` is for every scoring.
public struct RouterNoise: Sendable, Equatable {
  /// Of the step.
  public var seed: UInt64
  /// The index of a micro-batch's first token in the whole batch.
  public var firstToken: Int
  /// ε: each column of the router's copy of a token is multiplied by a uniform of [1 − ε, 1 + ε] (Switch Transformer
  /// §2.2, ε = 10⁻²). The experts and the dense branch see the token itself. 0 is none.
  public var inputJitter: Float

  /// Makes noise.
  public init(seed: UInt64, firstToken: Int = 0, inputJitter: Float = 0) {
    self.seed = seed
    self.firstToken = firstToken
    self.inputJitter = inputJitter
  }

  /// Checks the noise.
  ///
  /// - Throws: ``MoEError/invalidConfiguration(_:)`` for a jitter outside [0, 1].
  public func validate() throws(MoEError) {
    guard inputJitter >= 0, inputJitter <= 1 else {
      throw .invalidConfiguration("the jitter of the router's input is \(inputJitter), expected 0 to 1")
    }
  }
}
