extension RoutingPolicy {
  /// The load-balance loss: the choices that it counts for the share f of each expert, in E·Σ f·P with the mean
  /// probability P.
  public enum LoadBalance: Sendable, Equatable {
    /// No loss.
    case none
    /// Only first choices: E·Σ f·P (Switch §2.2; GShard §2.2, which writes it as E²·mean).
    case firstChoice
    /// All k choices, divided by k, so that the minimum is 1 (DeepSpeed top-k, Megatron-Core).
    case allChoices
    /// All k choices, not divided, so that the minimum is k (flaxformer, Hugging Face's Mixtral family).
    case everyChoice
    /// The choices that are kept, and the sum of all probabilities, both divided by the number of choices that are kept
    /// (FastMoE's Switch gate).
    case keptChoices
  }
}
