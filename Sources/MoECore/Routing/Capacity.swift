extension RoutingPolicy {
  /// Dropping of the choices that exceed an expert's capacity.
  public struct Capacity: Sendable, Equatable {
    /// The order in which choices claim an expert's rows.
    public enum Priority: Sendable, Equatable {
      /// All first choices in token order, then all second choices, and so on (GShard).
      case choiceThenToken
      /// All choices of the first token, then all choices of the second token, and so on.
      case tokenThenChoice
      /// By weight, the largest first; choices of equal weight in token order.
      case weight
      /// By score before normalisation, the largest first; choices of equal score in token order.
      case gate
      /// In random order: Random Token Selection of DeepSpeed, also at evaluation. The order depends on the seed of
      /// ``RouterNoise`` and on the token's index in the whole batch; without noise the seed is 0.
      case random
      /// All first choices, then all second choices, and so on, each in the order of the tokens' first weights, the
      /// largest first: Batch Prioritized Routing (Riquelme et al. 2021, §4.1). Slots follow that order.
      case batchPrioritized
      /// One expert per token: a token whose choice is full tries its next choice, after all tokens tried the choice
      /// before (No-Token-Left-Behind, Fedus et al. 2021, appendix B).
      case nextChoice
    }

    /// The set of tokens that compete for one expert's rows.
    public enum Scope: Sendable, Equatable {
      /// All tokens of the batch.
      case batch
      /// The tokens of each sequence, whose length is `shape[-2]` of the activations.
      case sequence
      /// Each run of this number of consecutive tokens (the groups of GShard).
      case group(Int)
    }

    /// The number of rows an expert accepts from one scope.
    public var rule: CapacityRule
    /// The order in which choices claim rows.
    public var priority: Priority
    /// The set of tokens that compete.
    public var scope: Scope

    /// Makes a rule for dropping.
    public init(rule: CapacityRule, priority: Priority = .choiceThenToken, scope: Scope = .batch) {
      self.rule = rule
      self.priority = priority
      self.scope = scope
    }
  }
}
