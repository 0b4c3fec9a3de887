extension RoutingPolicy {
  /// Returns the policy of Switch Transformer (Fedus et al. 2021, §2.1). Each token takes its best expert, with the
  /// softmax probability as weight. If an expert gets too many tokens, the last ones are dropped.
  public static func switchTransformer(capacity: CapacityRule? = nil) -> RoutingPolicy {
    RoutingPolicy(
      scoring: .softmax, capacity: capacity.map { Capacity(rule: $0) }, loadBalance: .firstChoice)
  }

  /// Returns the top-2 policy of GShard (Lepikhin et al. 2020, Algorithm 1) and GLaM. The two probabilities are divided
  /// by their sum before dropping. All first choices have priority over all second choices.
  public static func gshardTop2(capacity: CapacityRule? = nil) -> RoutingPolicy {
    RoutingPolicy(
      scoring: .softmax, normalization: .sum(plus: 1e-9), capacity: capacity.map { Capacity(rule: $0) },
      loadBalance: .firstChoice)
  }

  /// Returns the policy of softmax over all experts, then top-k (Mixtral, Qwen, OLMoE; their configuration files give
  /// `normalized`).
  public static func softmaxTopK(normalized: Bool) -> RoutingPolicy {
    RoutingPolicy(scoring: .softmax, normalization: normalized ? .sum(plus: 0) : .none)
  }

  /// The policy of top-k by logits, then softmax over the selected experts (gpt-oss, Granite).
  public static let topKSoftmax = RoutingPolicy(scoring: .softmaxOverSelected)

  /// Returns the policy of DeepSeek-V3 (§2.1.2): sigmoid scores, a bias for the selection only, and groups ranked by
  /// the sum of their two best scores.
  public static func deepseekV3(groups: Int, selectedGroups: Int, normalized: Bool, scale: Float)
    -> RoutingPolicy
  {
    RoutingPolicy(
      scoring: .sigmoid, normalization: normalized ? .sum(plus: 1e-20) : .none, scale: scale,
      groups: GroupLimit(count: groups, selected: selectedGroups, score: .topTwoSum, mask: .negativeInfinity))
  }

  /// The policy of Llama 4: one expert, whose input is multiplied by the sigmoid of its logit.
  public static let llama4 = RoutingPolicy(scoring: .sigmoidOfSelected, weightPlacement: .input)
}
