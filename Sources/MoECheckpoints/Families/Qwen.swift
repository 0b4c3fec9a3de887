import MoECore

extension ModelFamily {
  /// Qwen2-MoE: softmax over all experts, and a shared expert behind a sigmoid gate.
  static let qwen2MoE = ModelFamily("qwen2_moe") { config in
    try ModelDescription(
      MoEConfiguration(
        hiddenSize: config.size("hidden_size", default: 2048),
        feedForwardSize: config.size("moe_intermediate_size", default: 1408),
        expertCount: config.size("num_experts", default: 60),
        expertsPerToken: config.size("num_experts_per_tok", default: 4),
        activation: config.gatedActivation("hidden_act"),
        routing: .softmaxTopK(normalized: config.bool("norm_topk_prob", default: false)),
        denseBranch: .gatedShared(
          feedForwardSize: config.size("shared_expert_intermediate_size", default: 5632))),
      BlockLayout(
        router: RouterLayout(weight: "gate.weight"), experts: .separate(.projections),
        dense: DenseLayout(prefix: "shared_expert.", gate: "shared_expert_gate.weight")),
      layers: sparseLayers(config.unquantized(), defaultCount: 24), at: { "model.layers.\($0).mlp" })
  }

  /// Qwen3-MoE: softmax over all experts.
  static let qwen3MoE = ModelFamily("qwen3_moe") { config in
    try ModelDescription(
      MoEConfiguration(
        hiddenSize: config.size("hidden_size", default: 2048),
        feedForwardSize: config.size("moe_intermediate_size", default: 768),
        expertCount: config.size("num_experts", or: "num_local_experts", default: 128),
        expertsPerToken: config.size("num_experts_per_tok", default: 8),
        activation: config.gatedActivation("hidden_act"),
        routing: .softmaxTopK(normalized: config.bool("norm_topk_prob", default: false))),
      BlockLayout(router: RouterLayout(weight: "gate.weight"), experts: .separate(.projections)),
      layers: sparseLayers(config.unquantized(), defaultCount: 24), at: { "model.layers.\($0).mlp" })
  }

  /// Returns every `decoder_sparse_step`-th layer that is not in `mlp_only_layers`.
  private static func sparseLayers(_ config: ConfigFile, defaultCount: Int) throws -> [Int] {
    let step = try config.size("decoder_sparse_step", default: 1)
    let dense = Set(try config.integers("mlp_only_layers") ?? [])
    return try (0..<config.layerCount(default: defaultCount)).filter {
      ($0 + 1) % step == 0 && !dense.contains($0)
    }
  }
}
