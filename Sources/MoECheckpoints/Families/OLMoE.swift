import MoECore

extension ModelFamily {
  /// OLMoE: softmax over all experts.
  static let olmoe = ModelFamily("olmoe") { config in
    try ModelDescription(
      MoEConfiguration(
        hiddenSize: config.size("hidden_size", default: 2048),
        feedForwardSize: config.size("intermediate_size", default: 2048),
        expertCount: config.size("num_experts", or: "num_local_experts", default: 64),
        expertsPerToken: config.size("num_experts_per_tok", default: 8),
        activation: config.gatedActivation("hidden_act"),
        routing: .softmaxTopK(normalized: config.bool("norm_topk_prob", default: false))),
      BlockLayout(router: RouterLayout(weight: "gate.weight"), experts: .separate(.projections)),
      layers: Array(0..<config.unquantized().layerCount(default: 16)), at: { "model.layers.\($0).mlp" })
  }
}
