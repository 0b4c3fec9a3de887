extension RoutingPolicy {
  /// The load-balance loss E·Σ f·P, with f each expert's share of choices and P its mean probability.
  public struct LoadBalance: Sendable, Equatable {
    /// The choices that f counts.
    public enum Choices: Sendable, Equatable {
      /// None: there is no loss.
      case none
      /// Only first choices (Switch §2.2; GShard §2.2, which writes the loss as E²·mean).
      case first
      /// All k choices, divided by k, so that the minimum is 1 (DeepSpeed top-k, Megatron-Core).
      case all
      /// The k best scores, without groups, selection bias and rules of the second choice, divided by k (Megatron-Core). A
      /// record counts the actual choices in their place.
      case best
      /// All k choices, not divided, so that the minimum is k (flaxformer).
      case every
      /// As `best`, not divided (Hugging Face's Mixtral family).
      case everyBest
      /// The choices that are kept, and the sum of all probabilities, both divided by the number of choices that are kept
      /// (FastMoE's Switch gate).
      case kept
    }

    /// The part that padding tokens take, where a mask names them. A system without masks has ``left``.
    public enum Padding: Sendable, Equatable {
      /// None: f and P are means over the real tokens.
      case left
      /// Sums are over the real tokens, divided by the number of all tokens (flaxformer, GShard).
      case inDivisor
      /// As `inDivisor`, but P has the probabilities of padding too (DeepSpeed).
      case inProbabilities
      /// f and P are means over all tokens; the loss is multiplied by the share of real tokens (mesh-tensorflow).
      case inMeans
      /// As `left`, with 10⁻⁶ added to the share of real tokens (`legacy_mtf_behavior=False` of lingvo).
      case nearlyLeft
    }

    /// The choices that f counts.
    public var choices: Choices
    /// The part that padding takes.
    public var padding: Padding
    /// The tokens of the z-loss.
    public var routerZ: RouterZ

    /// Makes a loss.
    public init(_ choices: Choices, padding: Padding = .left, routerZ: RouterZ = .real) {
      self.choices = choices
      self.padding = padding
      self.routerZ = routerZ
    }

    /// The tokens whose ln Σ exp(logit) the z-loss averages.
    public enum RouterZ: Sendable, Equatable {
      /// The real tokens.
      case real
      /// All tokens; the logits of padding are zeroed, so that each counts ln E (flaxformer).
      case all
    }

    /// No loss.
    public static let none = LoadBalance(.none)
    /// Only first choices, padding left out.
    public static let firstChoice = LoadBalance(.first)
    /// All k choices divided by k, padding left out.
    public static let allChoices = LoadBalance(.all)
    /// All k choices, padding left out.
    public static let everyChoice = LoadBalance(.every)
    /// The k best scores divided by k, padding left out.
    public static let bestChoices = LoadBalance(.best)
    /// The choices that are kept.
    public static let keptChoices = LoadBalance(.kept)
  }
}
