extension RoutingPolicy {
  /// The exceptions from the rule that a token takes its k best experts, best first.
  public struct Choice: Sendable, Equatable {
    /// The rule of the first choice.
    public enum First: Sendable, Equatable {
      /// The best expert.
      case best
      /// In training, the expert with the largest logit plus Gumbel noise, so that each is drawn with its softmax
      /// probability (`RSample` of DeepSpeed); at evaluation the best expert.
      case sampled
      /// In training, an expert drawn from softmax(logits/temperature) (`sample` of Switch Transformer in
      /// mesh-tensorflow); at evaluation the best expert.
      case sampledWithTemperature(Float)
    }

    /// The rule of the second choice.
    public enum Second: Sendable, Equatable {
      /// The best expert that is left, always.
      case best
      /// The expert with the largest logit plus Gumbel noise among those left, also at evaluation (GShard in lingvo
      /// `sampling`, DeepSpeed `top2_2nd_expert_sampling`).
      case sampled
      /// The best expert that is left, kept with probability w₂/`threshold`, also at evaluation (GShard, Algorithm 1:
      /// 2·w₂, a threshold of ½; mesh-tensorflow: 0.2).
      case random(threshold: Float)
      /// As `random`, decided after the capacity: a choice that is not taken has claimed a row nevertheless (FastMoE's
      /// GShard gate).
      case randomAfterDropping(threshold: Float)
      /// The best expert that is left, if its weight is above this number.
      case above(Float)
    }

    /// The rule of the first choice.
    public var first: First
    /// The rule of the second choice.
    public var second: Second

    /// The k best experts.
    public static let best = Choice()

    /// Makes a rule.
    public init(first: First = .best, second: Second = .best) {
      self.first = first
      self.second = second
    }
  }
}

extension RoutingPolicy.Choice.Second {
  /// Whether a choice that is not taken claims a row first.
  package var isDecidedLater: Bool { if case .randomAfterDropping = self { true } else { false } }
}
