extension RoutingPolicy {
  /// Noise on the router's input and logits in training. The experts see none of it.
  public struct Noise: Sendable, Equatable {
    /// Noise on each logit. Scores, weights and losses see the noisy logits.
    public enum Logits: Sendable, Equatable {
      /// No noise.
      case none
      /// A normal number times `deviation` divided by the number of experts (`gate_noise` of Tutel, `noise_std` of
      /// V-MoE).
      case normal(deviation: Float)
      /// A number that is uniform in [1 − ε, 1 + ε] (Switch Transformer, appendix F; FastMoE).
      case uniform(Float)
      /// A normal number times softplus(x·W) + 0.01 with learned W `[D, E]` (Shazeer et al. 2017, eq. 4).
      case learned
    }

    /// ε: each element of the router's copy of a token is multiplied by a random number that is uniform in [1 − ε, 1 +
    /// ε] (Switch Transformer §2.2, ε = 10⁻²). 0 means no jitter.
    public var inputJitter: Float
    /// The probability with which each element of the router's copy of a token is zeroed; the others are divided by the
    /// probability to stay (`moe_input_dropout` of mesh-tensorflow).
    public var inputDropout: Float
    /// The noise on the logits.
    public var logits: Logits

    /// Whether the router reads another copy of its input than the experts.
    package var changesInput: Bool { inputJitter > 0 || inputDropout > 0 }

    /// No noise.
    public static let none = Noise()

    /// Makes a rule for noise.
    public init(inputJitter: Float = 0, inputDropout: Float = 0, logits: Logits = .none) {
      self.inputJitter = inputJitter
      self.inputDropout = inputDropout
      self.logits = logits
    }
  }
}
