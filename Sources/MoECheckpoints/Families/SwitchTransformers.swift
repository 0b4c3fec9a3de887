import MoECore

extension ModelFamily {
  /// Switch Transformers: the best expert's probability is its weight; in each sequence an expert takes the first
  /// `expert_capacity` tokens that choose it, and the others get nothing from the block.
  static let switchTransformers = ModelFamily("switch_transformers") { config in
    try config.require("router_dtype", isOneOf: .string("float32"))
    try config.require("router_ignore_padding_tokens", isOneOf: .bool(false))
    let capacity = try config.count("expert_capacity", default: 64)
    let encoderCount = try config.unquantized().layerCount("num_layers", or: "num_hidden_layers", default: 12)
    let decoderCount =
      try config.has("num_decoder_layers") || config.members["num_decoder_layers"] == nil
      ? config.layerCount("num_decoder_layers", default: 12) : encoderCount
    let encoder = try sparseLayers(config, "encoder", of: encoderCount)
    let decoder = try sparseLayers(config, "decoder", of: decoderCount)
    return try ModelDescription(
      MoEConfiguration(
        hiddenSize: config.size("d_model", or: "hidden_size", default: 768),
        feedForwardSize: config.size("d_ff", default: 2048),
        expertCount: config.size("num_experts", default: 8), expertsPerToken: 1,
        activation: config.plainActivation("dense_act_fn"),
        routing: RoutingPolicy(
          scoring: .softmax,
          capacity: RoutingPolicy.Capacity(
            rule: .fixed(capacity), priority: .choiceThenToken, scope: .sequence),
          loadBalance: .firstChoice)),
      BlockLayout(
        router: RouterLayout(
          weight: "router.classifier.weight",
          bias: config.bool("router_bias", default: false) ? "router.classifier.bias" : nil),
        experts: .separate(ProjectionNames(up: "wi.weight", down: "wo.weight"), prefix: "expert_")),
      blocks: encoder.map {
        ModelDescription.Block(name: "encoder.\($0)", prefix: "encoder.block.\($0).layer.1.mlp")
      }
        + decoder.map {
          ModelDescription.Block(name: "decoder.\($0)", prefix: "decoder.block.\($0).layer.2.mlp")
        })
  }

  /// Returns layers 1, 1 + s, 1 + 2s, … for the step s, and all layers for the step 1.
  ///
  /// The step is the one in the file, or follows from the number of sparse layers. As in transformers, zero sparse
  /// layers make the step as large as the number of layers, so that one layer is sparse.
  private static func sparseLayers(_ config: ConfigFile, _ stack: String, of count: Int) throws -> [Int] {
    let sparse = try config.count("num_sparse_\(stack)_layers", default: 3)
    let step = try config.count("\(stack)_sparse_step", default: sparse > 0 ? count / sparse : count)
    return (0..<count).filter { step == 1 || step > 0 && $0 % step == 1 }
  }
}
