import MoECore

extension ModelFamily {
  /// DeepSeek-V2: softmax over all experts, optionally limited to the groups with the best expert; experts
  /// outside score 0. The weights are scaled, never normalised.
  static let deepseekV2 = ModelFamily("deepseek_v2") { config in
    let method = try config.string("topk_method", default: "greedy")
    try config.require("topk_method", isOneOf: .string("greedy"), .string("group_limited_greedy"))
    try config.require("scoring_func", isOneOf: .string("softmax"))
    try config.require("moe_layer_freq", isOneOf: .integer(1))
    // Where this is true, DeepSeek's own code normalises and transformers does not: either could be meant.
    try config.require("norm_topk_prob", isOneOf: .bool(false), .null)
    let groups = try method == "greedy" ? nil : groupLimit(config, score: .maximum, mask: .zero)
    let inner = try config.size("moe_intermediate_size", default: 1407)
    let shared = try sharedExperts(config, "n_shared_experts", default: 2, each: inner)
    return try ModelDescription(
      MoEConfiguration(
        hiddenSize: config.size("hidden_size", default: 4096),
        feedForwardSize: inner,
        expertCount: config.size("n_routed_experts", or: "num_experts", default: 64),
        expertsPerToken: config.size("num_experts_per_tok"),
        activation: config.gatedActivation("hidden_act"),
        routing: RoutingPolicy(
          scoring: .softmax, scale: config.float("routed_scaling_factor", default: 1), groups: groups),
        denseBranch: shared),
      BlockLayout(
        router: RouterLayout(weight: "gate.weight"), experts: .separate(.projections),
        dense: shared.map { _ in DenseLayout(prefix: "shared_experts.") }),
      layers: layersAfterDense(config, defaultDense: 0, defaultCount: 32), at: { "model.layers.\($0).mlp" })
  }

  /// Returns `n_group` and `topk_group` of the DeepSeek families.
  static func groupLimit(
    _ config: ConfigFile, defaultCount: Int? = nil, defaultSelected: Int? = nil,
    score: RoutingPolicy.GroupLimit.Score, mask: RoutingPolicy.GroupLimit.Mask
  ) throws -> RoutingPolicy.GroupLimit {
    let count = try config.size("n_group", default: defaultCount)
    let selected = try config.integer("topk_group", default: defaultSelected, in: 1...count)
    return RoutingPolicy.GroupLimit(count: count, selected: selected, score: score, mask: mask)
  }

  /// Returns the shared experts, which are stored as one network of their joint width.
  static func sharedExperts(
    _ config: ConfigFile, _ key: String, default value: Int? = nil, each inner: Int
  ) throws -> MoEConfiguration.DenseBranch? {
    let count = try config.count(key, default: value)
    return count == 0 ? nil : .shared(feedForwardSize: count * inner)
  }

  /// Returns the layers after the first `first_k_dense_replace`.
  static func layersAfterDense(_ config: ConfigFile, defaultDense: Int, defaultCount: Int) throws -> [Int] {
    let count = try config.unquantized().layerCount(default: defaultCount)
    let dense = try config.count("first_k_dense_replace", default: defaultDense)
    return Array(min(dense, count)..<count)
  }
}
