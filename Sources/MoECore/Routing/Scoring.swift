extension RoutingPolicy {
  /// The scores by which experts are compared and from which their weights are computed.
  public enum Scoring: Sendable, Equatable {
    /// The softmax over all experts, then the selection.
    case softmax
    /// The sigmoid of each logit, then the selection.
    case sigmoid
    /// √(ln(1 + e^logit)) of each logit, then the selection (DeepSeek-V4; Megatron-Core `sqrtsoftplus`).
    case squareRootSoftplus
    /// The selection by logits, then the softmax over the selected experts.
    case softmaxOverSelected
    /// The selection by logits, then the sigmoid of each selected logit. Unlike `sigmoid`, it still tells apart large
    /// logits whose sigmoids round to the same number.
    case sigmoidOfSelected
    /// SparseMixer at evaluation (Liu et al. 2023; Phi-3.5-MoE): for one choice after another, the softmax over the
    /// experts whose logit is within 2·`jitter` of the best logit, relative to the larger of |logit| and the best
    /// logit.
    case sparseMixer(jitter: Float)
  }
}
