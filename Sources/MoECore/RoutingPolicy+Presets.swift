extension RoutingPolicy {
  /// Switch Transformer (Fedus et al. 2021, §2.1): the softmax probability of the best expert is its weight;
  /// the tokens that come latest are dropped.
  public static func switchTransformer(capacity: CapacityRule? = nil) -> RoutingPolicy {
    RoutingPolicy(
      scoring: .softmax, capacity: capacity.map { Capacity(rule: $0) }, loadBalance: .firstChoice)
  }

  /// GShard top-2 (Lepikhin et al. 2020, Algorithm 1), also GLaM: the two probabilities divided by their sum
  /// before dropping; all first choices outrank all second choices.
  public static func gshardTop2(capacity: CapacityRule? = nil) -> RoutingPolicy {
    RoutingPolicy(
      scoring: .softmax, normalization: .sum(plus: 1e-9), capacity: capacity.map { Capacity(rule: $0) },
      loadBalance: .firstChoice)
  }

  /// Softmax over all experts, then top-k (Mixtral, Qwen, OLMoE with `normalized` as their configuration says).
  public static func softmaxTopK(normalized: Bool) -> RoutingPolicy {
    RoutingPolicy(scoring: .softmax, normalization: normalized ? .sum(plus: 0) : .none)
  }

  /// Top-k on the logits, then softmax over the selected (gpt-oss, Granite).
  public static let topKSoftmax = RoutingPolicy(scoring: .softmaxOverSelected)

  /// DeepSeek-V3 (§2.1.2): sigmoid scores, biased for selection only, groups ranked by their two best.
  public static func deepseekV3(groups: Int, selectedGroups: Int, normalized: Bool, scale: Float)
    -> RoutingPolicy
  {
    RoutingPolicy(
      scoring: .sigmoid, normalization: normalized ? .sum(plus: 1e-20) : .none, scale: scale,
      groups: GroupLimit(count: groups, selected: selectedGroups, score: .topTwoSum, mask: .negativeInfinity))
  }

  /// Llama 4: one expert, the sigmoid of its logit multiplies its input.
  public static let llama4 = RoutingPolicy(scoring: .sigmoidOfSelected, weightPlacement: .input)
}
