import MoECore

extension ModelFamily {
  /// ERNIE 4.5: softmax over all experts, biased for selection only, divided by a sum that is kept above
  /// `moe_norm_min`.
  static let ernie45MoE = ModelFamily("ernie4_5_moe") { config in
    try config.require("use_bias", isOneOf: .bool(false), .null)
    let inner = try config.size("moe_intermediate_size", default: 1536)
    let shared = try sharedExperts(config, "moe_num_shared_experts", default: 2, each: inner)
    let count = try config.unquantized().layerCount(default: 28)
    let first = try config.count("moe_layer_start_index", default: 1)
    let end = try config.integer("moe_layer_end_index", default: -1, in: -1...ConfigFile.sizeLimit)
    let last = end == -1 ? count - 1 : end
    let interval = try config.size("moe_layer_interval", default: 1)
    return try ModelDescription(
      MoEConfiguration(
        hiddenSize: config.size("hidden_size", default: 2560),
        feedForwardSize: inner,
        expertCount: config.size("moe_num_experts", or: "num_experts", default: 64),
        expertsPerToken: config.size("moe_k", or: "num_experts_per_tok", default: 6),
        activation: config.gatedActivation("hidden_act"),
        routing: RoutingPolicy(
          scoring: .softmax, normalization: .sumAtLeast(config.float("moe_norm_min", default: 1e-12))),
        denseBranch: shared),
      BlockLayout(
        router: RouterLayout(
          weight: "gate.weight", selectionBias: "moe_statics.e_score_correction_bias", selectionBiasRows: [1]),
        experts: .separate(.projections),
        dense: shared.map { _ in DenseLayout(prefix: "shared_experts.") }),
      layers: (0..<count).filter { ($0 + 1) % interval == 0 && $0 >= first && $0 <= last },
      at: { "model.layers.\($0).mlp" })
  }
}
