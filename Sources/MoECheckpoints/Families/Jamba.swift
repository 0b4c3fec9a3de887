import MoECore

extension ModelFamily {
  /// Jamba: softmax over all experts, not normalised, in every `expert_layer_period`-th layer.
  static let jamba = ModelFamily("jamba") { config in
    let expertCount = try config.size("num_experts", or: "num_local_experts", default: 16)
    let period = try config.size("expert_layer_period", default: 2)
    let offset = try config.integer("expert_layer_offset", default: 1, in: 0...max(period - 1, 0))
    let count = try config.unquantized().layerCount(default: 32)
    return try ModelDescription(
      MoEConfiguration(
        hiddenSize: config.size("hidden_size", default: 4096),
        feedForwardSize: config.size("intermediate_size", default: 14336),
        expertCount: expertCount,
        expertsPerToken: config.size("num_experts_per_tok", default: 2),
        activation: config.gatedActivation("hidden_act"),
        routing: .softmaxTopK(normalized: false)),
      BlockLayout(router: RouterLayout(weight: "router.weight"), experts: .separate(.projections)),
      // A model with one expert is dense everywhere.
      layers: (0..<count).filter { $0 % period == offset && expertCount > 1 },
      at: { "model.layers.\($0).feed_forward" })
  }
}
