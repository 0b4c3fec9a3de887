import MoE

/// A routing policy, and its name in `moe route`.
struct PolicyPreset: Sendable {
  let name: String
  let summary: String
  /// K of the system, or of its published model.
  let expertsPerToken: Int
  /// Whether tokens may be limited to groups of experts, as DeepSeek-V2 (softmax) and V3 (sigmoid) limit them.
  var takesGroups = false
  /// The policy for E experts, without a capacity.
  let policy: @Sendable (_ expertCount: Int) -> RoutingPolicy
  /// The system's own capacity for a factor and a least capacity; nil where it has no rule of its own.
  var capacity: (@Sendable (_ factor: Double?, _ minimum: Int?) -> CapacityRule)?

  static let all: [PolicyPreset] = [
    PolicyPreset(
      name: "switch", summary: "Switch Transformer: top-1, weight = probability, capacity factor 1.25",
      expertsPerToken: 1, policy: { _ in .switchTransformer() },
      capacity: { .meshTensorFlow(factor: $0 ?? 1.25, minimum: $1 ?? 4) }),
    PolicyPreset(
      name: "gshard-top2", summary: "GShard and GLaM: top-2 over their sum, first choices first, factor 2",
      expertsPerToken: 2, policy: { _ in .gshardTop2() },
      capacity: { .lingvo(factor: $0 ?? 2, minimum: $1 ?? 4) }),
    PolicyPreset(
      name: "softmax-topk", summary: "softmax over all experts, then top-k, weights over their sum",
      expertsPerToken: 2, takesGroups: true, policy: { _ in .softmaxTopK(normalized: true) }),
    PolicyPreset(
      name: "topk-softmax", summary: "top-k on the logits, then softmax over the selected",
      expertsPerToken: 2, policy: { _ in .topKSoftmax }),
    PolicyPreset(
      name: "deepseek-v3", summary: "sigmoid, selection bias, 4 of 8 groups by their two best, ×2.5",
      expertsPerToken: 8, takesGroups: true, policy: deepseekV3),
    PolicyPreset(
      name: "sparsemixer", summary: "SparseMixer at evaluation, jitter 0.01 (Phi-3.5-MoE)",
      expertsPerToken: 2, policy: { _ in RoutingPolicy(scoring: .sparseMixer(jitter: 0.01)) }),
    PolicyPreset(
      name: "llama4", summary: "top-1, the sigmoid of the logit multiplies the expert's input",
      expertsPerToken: 1, policy: { _ in .llama4 }),
  ]

  static func named(_ name: String) -> PolicyPreset? { all.first { $0.name == name } }

  /// Returns eight groups of which each token uses four, where the experts divide into eight groups of two or more;
  /// otherwise no groups.
  @Sendable private static func deepseekV3(expertCount: Int) -> RoutingPolicy {
    let isGrouped = expertCount % 8 == 0 && expertCount >= 16
    var policy = RoutingPolicy.deepseekV3(groups: 8, selectedGroups: 4, normalized: true, scale: 2.5)
    if !isGrouped { policy.groups = nil }
    return policy
  }
}
