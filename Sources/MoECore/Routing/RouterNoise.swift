/// The random numbers of one training pass. The policy says what they are used for: `RoutingPolicy.Noise`,
/// `RoutingPolicy.Choice` and random priorities.
///
/// Each random number depends only on the seed, the token's index in the whole batch and the number's index within the
/// token. So neither the number of threads nor the split into micro-batches changes it. Every training step uses a new
/// seed.
///
/// SparseMixer (`RoutingPolicy.Scoring.sparseMixer`) samples each choice in training. It takes the expert whose logit
/// plus Gumbel noise is largest among the experts that compete for the choice, so each expert is sampled with the
/// probability of its softmax share. The weight is that share. Unless the sampled expert is also the best, the weight is
/// multiplied by 1/3 with probability 3/4. The backward pass multiplies the gradient of the weight by the Jacobian of the
/// shares and ignores the factor 1/3: Heun's third-order estimator (Liu et al. 2023, "Sparse Backpropagation for MoE
/// Training"; in the form of the router that Phi-3.5-MoE publishes, with 1/3 exact). Not reproduced: the mid-point
/// estimator of that paper, and the random numbers of the published source.
public struct RouterNoise: Sendable, Equatable {
  /// The seed of the training step.
  public var seed: UInt64
  /// The index of a micro-batch's first token in the whole batch.
  public var firstToken: Int

  /// Makes the random numbers of a seed.
  public init(seed: UInt64, firstToken: Int = 0) {
    self.seed = seed
    self.firstToken = firstToken
  }
}
