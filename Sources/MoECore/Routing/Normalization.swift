extension RoutingPolicy {
  /// The divisor of the selected weights.
  public enum Normalization: Sendable, Equatable {
    /// No division.
    case none
    /// Their sum plus this number.
    case sum(plus: Float)
    /// Their sum, or this number if the sum is smaller.
    case sumAtLeast(Float)
    /// Their p-norm, (Σ wᵖ)^(1/p) (DBRX, MegaBlocks).
    case norm(power: Float)
  }

  /// The point at which weights are normalised, relative to dropping.
  public enum NormalizationTime: Sendable, Equatable {
    /// Before dropping: the weights of a token that lost a choice sum to less than the others'.
    case beforeDropping
    /// After dropping, over the choices that are kept: a single kept choice gets the weight 1 (DeepSpeed).
    case afterDropping
  }
}
