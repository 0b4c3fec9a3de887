import MoECore

extension ModelFamily {
  /// Mixtral: softmax over all experts, the best k divided by their sum.
  static let mixtral = ModelFamily("mixtral") { config in
    try ModelDescription(
      MoEConfiguration(
        hiddenSize: config.size("hidden_size", default: 4096),
        feedForwardSize: config.size("intermediate_size", default: 14336),
        expertCount: config.size("num_local_experts", or: "num_experts", default: 8),
        expertsPerToken: config.size("num_experts_per_tok", default: 2),
        activation: config.gatedActivation("hidden_act"),
        routing: .softmaxTopK(normalized: true)),
      BlockLayout(router: RouterLayout(weight: "gate.weight"), experts: .separate(.numbered)),
      layers: Array(0..<config.unquantized().layerCount(default: 32)),
      at: { "model.layers.\($0).block_sparse_moe" })
  }
}
