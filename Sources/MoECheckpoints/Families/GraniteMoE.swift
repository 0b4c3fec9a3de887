import MoECore

extension ModelFamily {
  /// Granite-MoE: the best k logits, softmax over them; all experts in two tensors.
  static let graniteMoE = ModelFamily("granitemoe") { config in
    try ModelDescription(
      MoEConfiguration(
        hiddenSize: config.size("hidden_size", default: 4096),
        feedForwardSize: config.size("intermediate_size", default: 11008),
        expertCount: config.size("num_local_experts", default: 8),
        expertsPerToken: config.size("num_experts_per_tok", default: 2),
        activation: config.gatedActivation("hidden_act"),
        routing: .topKSoftmax),
      BlockLayout(
        router: RouterLayout(weight: "router.layer.weight"),
        experts: .stacked(
          StackedLayout(
            gateUp: "input_linear.weight", down: "output_linear.weight", arrangement: .gateThenUp,
            storage: .floats(.outputRows)))),
      layers: Array(0..<config.unquantized().layerCount(default: 32)),
      at: { "model.layers.\($0).block_sparse_moe" })
  }
}
