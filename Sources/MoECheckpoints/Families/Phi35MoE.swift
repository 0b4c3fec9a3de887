import MoECore

extension ModelFamily {
  /// Phi-3.5-MoE: SparseMixer, which always chooses two experts; another `num_experts_per_tok` is refused.
  static let phiMoE = ModelFamily("phimoe") { config in
    try config.require("num_experts_per_tok", isOneOf: .integer(2))
    return try ModelDescription(
      MoEConfiguration(
        hiddenSize: config.size("hidden_size", default: 4096),
        feedForwardSize: config.size("intermediate_size", default: 6400),
        expertCount: config.size("num_local_experts", default: 16),
        expertsPerToken: 2,
        activation: config.gatedActivation("hidden_act"),
        routing: RoutingPolicy(
          scoring: .sparseMixer(jitter: config.float("router_jitter_noise", default: 0.01)))),
      BlockLayout(router: RouterLayout(weight: "gate.weight"), experts: .separate(.numbered)),
      layers: Array(0..<config.unquantized().layerCount(default: 32)),
      at: { "model.layers.\($0).block_sparse_moe" })
  }
}
