import MoECore

extension ModelFamily {
  /// Llama 4, the language model alone.
  static let llama4Text = ModelFamily("llama4_text") { config in
    try describeLlama4(config.unquantized(), prefix: "model")
  }

  /// Llama 4 with its vision model: the language model's configuration and tensors are one level down.
  static let llama4 = ModelFamily("llama4") { config in
    let text = try config.unquantized().object("text_config").unquantized()
    try text.require("model_type", isOneOf: .string("llama4_text"))
    return try describeLlama4(text, prefix: "language_model.model")
  }

  /// Returns the description: the sigmoid of the best logit multiplies the expert's input, and a shared expert of the
  /// same width is added.
  private static func describeLlama4(_ config: ConfigFile, prefix: String) throws -> ModelDescription {
    let count = try config.layerCount(default: 48)
    let step = try config.size("interleave_moe_layer_step", default: 1)
    let listed = try config.integers("moe_layers").map(Set.init)
    let inner = try config.size("intermediate_size", default: 8192)
    return try ModelDescription(
      MoEConfiguration(
        hiddenSize: config.size("hidden_size", default: 5120), feedForwardSize: inner,
        expertCount: config.size("num_local_experts", default: 16),
        expertsPerToken: config.size("num_experts_per_tok", default: 1),
        activation: config.gatedActivation("hidden_act"), routing: .llama4,
        denseBranch: .shared(feedForwardSize: inner)),
      BlockLayout(
        router: RouterLayout(weight: "router.weight"),
        experts: .stacked(
          StackedLayout(
            gateUp: "experts.gate_up_proj", down: "experts.down_proj", arrangement: .gateThenUp,
            storage: .floats(.inputRows))),
        dense: DenseLayout(prefix: "shared_expert.")),
      layers: (0..<count).filter { listed?.contains($0) ?? (($0 + 1) % step == 0) },
      at: { "\(prefix).layers.\($0).feed_forward" })
  }
}
