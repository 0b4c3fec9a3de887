import MoECore

extension ModelFamily {
  /// DeepSeek-V3 and R1.
  static let deepseekV3 = ModelFamily("deepseek_v3") { config in
    try sigmoidRouted(
      config,
      Defaults(
        hidden: 7168, inner: 2048, experts: 256, topK: 8, shared: 1, groups: 8, selectedGroups: 4,
        normalized: true, scale: 2.5, dense: 3, layers: 61))
  }

  /// GLM-4.5 and 4.6.
  static let glm4MoE = ModelFamily("glm4_moe") { config in
    try sigmoidRouted(
      config,
      Defaults(
        hidden: 4096, inner: 1408, experts: 128, topK: 8, shared: 1, groups: 1, selectedGroups: 1,
        normalized: true, scale: 1, dense: 1, layers: 46))
  }

  /// dots.llm1.
  static let dots1 = ModelFamily("dots1") { config in
    try sigmoidRouted(
      config,
      Defaults(
        hidden: 4608, inner: 1408, experts: nil, topK: nil, shared: nil, groups: 1, selectedGroups: 1,
        normalized: false, scale: 1, dense: 0, layers: 62))
  }

  /// The values that transformers assumes for absent keys; nil for a key that must be there.
  private struct Defaults {
    var hidden: Int
    var inner: Int
    var experts: Int?
    var topK: Int?
    var shared: Int?
    var groups: Int
    var selectedGroups: Int
    var normalized: Bool
    var scale: Float
    var dense: Int
    var layers: Int
  }

  /// Returns the description of DeepSeek-V3's router: sigmoid scores with a bias for selection only. The two best scores
  /// of a group rank it.
  private static func sigmoidRouted(_ config: ConfigFile, _ defaults: Defaults) throws -> ModelDescription {
    try config.require("scoring_func", isOneOf: .string("sigmoid"), .string("noaux_tc"))
    try config.require("topk_method", isOneOf: .string("noaux_tc"))
    try config.require("moe_layer_freq", isOneOf: .integer(1))
    let groups = try groupLimit(
      config, defaultCount: defaults.groups, defaultSelected: defaults.selectedGroups, score: .topTwoSum,
      mask: .negativeInfinity)
    let normalized = try config.bool("norm_topk_prob", default: defaults.normalized)
    let inner = try config.size("moe_intermediate_size", default: defaults.inner)
    let shared = try sharedExperts(config, "n_shared_experts", default: defaults.shared, each: inner)
    return try ModelDescription(
      MoEConfiguration(
        hiddenSize: config.size("hidden_size", default: defaults.hidden),
        feedForwardSize: inner,
        expertCount: config.size("n_routed_experts", or: "num_local_experts", default: defaults.experts),
        expertsPerToken: config.size("num_experts_per_tok", default: defaults.topK),
        activation: config.gatedActivation("hidden_act"),
        routing: RoutingPolicy(
          scoring: .sigmoid, normalization: normalized ? .sum(plus: 1e-20) : .none,
          scale: config.float("routed_scaling_factor", default: defaults.scale),
          groups: groups.count == 1 ? nil : groups),
        denseBranch: shared),
      BlockLayout(
        router: RouterLayout(weight: "gate.weight", selectionBias: "gate.e_score_correction_bias"),
        experts: .separate(.projections),
        dense: shared.map { _ in DenseLayout(prefix: "shared_experts.") }),
      layers: layersAfterDense(config, defaultDense: defaults.dense, defaultCount: defaults.layers),
      at: { "model.layers.\($0).mlp" })
  }
}
