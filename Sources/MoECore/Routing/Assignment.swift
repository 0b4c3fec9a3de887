extension RoutingPolicy {
  /// The side that chooses, and the balance that the choice is held to.
  public enum Assignment: Sendable, Equatable {
    /// Each token chooses its experts.
    case tokenChoice
    /// Each expert chooses as many tokens as the capacity says, so that a token may get none or several experts. The
    /// choice looks at later tokens: a causal decoder must not use it.
    case expertChoice(ExpertChoice)
    /// Each token's expert follows from its token id alone (Roller et al. 2021).
    case hash
    /// In training, each token takes the best experts of a doubly normalised plan; at evaluation, its best experts
    /// (Sinkhorn of Megatron-Core). The plan looks at all tokens of the batch.
    case sinkhorn
    /// In training, every expert gets an equal number of tokens, by an auction; at evaluation each token takes its best
    /// expert (BASE, Lewis et al. 2021).
    case balanced
    /// Each expert computes `slots` weighted means of all tokens, and each token a weighted mean of all results (Soft
    /// MoE, Puigcerver et al. 2023).
    case soft(slots: Int)
  }

  /// The scores by which experts compare tokens.
  public enum ExpertChoice: Sendable, Equatable {
    /// The softmax over experts; it is the weight too (Zhou et al. 2022, §3.2).
    case softmaxOverExperts
    /// The softmax over the tokens of a scope. The weights are divided by the number of experts that chose the token
    /// (`expert_selection` of mesh-tensorflow).
    case softmaxOverTokens
  }
}
