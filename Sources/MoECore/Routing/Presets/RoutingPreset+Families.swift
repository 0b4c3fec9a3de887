/// The routing rules of checkpoint families, by their `model_type`, with the numbers of a published model. A checkpoint's
/// own config.json decides when it is loaded.
extension RoutingPreset {
  static let families: [RoutingPreset] = [
    family("mixtral", "softmax, top-2 over their sum", k: 2, .softmaxTopK(normalized: true)),
    family("qwen2_moe", "softmax, top-4, not normalised", k: 4, .softmaxTopK(normalized: false)),
    family("qwen3_moe", "softmax, top-8 over their sum", k: 8, .softmaxTopK(normalized: true)),
    family("olmoe", "softmax, top-8, not normalised", k: 8, .softmaxTopK(normalized: false)),
    family(
      "deepseek_v2", "softmax, 3 of 8 groups by their best expert, top-6, ×16", k: 6,
      RoutingPolicy(
        scoring: .softmax, scale: 16,
        groups: .init(count: 8, selected: 3, score: .maximum, mask: .zero))),
    family(
      "deepseek_v3", "sigmoid, selection bias, 4 of 8 groups by their two best, top-8, ×2.5", k: 8,
      .deepseekV3(groups: 8, selectedGroups: 4, normalized: true, scale: 2.5)),
    family(
      "glm4_moe", "sigmoid, selection bias, top-8 over their sum", k: 8,
      .deepseekV3(groups: 1, selectedGroups: 1, normalized: true, scale: 1)),
    family(
      "dots1", "sigmoid, selection bias, top-6 over their sum, ×2.5", k: 6,
      .deepseekV3(groups: 1, selectedGroups: 1, normalized: true, scale: 2.5)),
    family(
      "ernie4_5_moe", "softmax, selection bias, top-6 over their sum", k: 6,
      RoutingPolicy(scoring: .softmax, normalization: .sumAtLeast(1e-12))),
    family("granitemoe", "top-8 on the logits, then softmax", k: 8, .topKSoftmax),
    family("gpt_oss", "top-4 on the logits, then softmax", k: 4, .topKSoftmax),
    family("phimoe", "SparseMixer, top-2", k: 2, RoutingPolicy(scoring: .sparseMixer(jitter: 0.01))),
    family("jamba", "softmax, top-2, not normalised", k: 2, .softmaxTopK(normalized: false)),
    family("llama4_text", "top-1, the sigmoid of the logit multiplies the input", k: 1, .llama4),
    family(
      "switch_transformers", "top-1, 64 rows per expert and sequence", k: 1,
      RoutingPolicy(
        scoring: .softmax, capacity: .init(rule: .fixed(64), scope: .sequence), loadBalance: .firstChoice)),
  ]

  private static func family(
    _ name: String, _ summary: String, k: Int, _ policy: RoutingPolicy
  ) -> RoutingPreset {
    var options: Set<Option> = [.topK, .scale, .mask]
    if policy.scoring != .sparseMixer(jitter: 0.01) { options.insert(.selectionBias) }
    if policy.capacity != nil { options.formUnion([.capacity, .groupSize, .noDrop]) }
    return RoutingPreset(
      name, summary, source: "transformers \(name)", k: k, options,
      { settings in
        policy.with {
          // Fewer experts than the published model has may not divide into its groups.
          if let groups = $0.groups,
            settings.expertCount % groups.count != 0 || settings.expertCount < 2 * groups.count
          {
            $0.groups = nil
          }
          if let capacity = settings.capacity { $0.capacity?.rule = .fixed(capacity) }
        }
      })
  }
}
