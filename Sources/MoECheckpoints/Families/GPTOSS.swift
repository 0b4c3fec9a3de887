import MoECore

extension ModelFamily {
  /// gpt-oss: the best k logits, softmax over them; experts with biases and a clamped SwiGLU, their gate and up
  /// projections interleaved, stored as floats with inputs as rows or as MXFP4 with outputs as rows.
  static let gptOSS = ModelFamily("gpt_oss") { config in
    let isPacked = config.has("quantization_config")
    if isPacked {
      let quantization = try config.object("quantization_config")
      _ = try quantization.string("quant_method")
      try quantization.require("quant_method", isOneOf: .string("mxfp4"))
    }
    try config.require("hidden_act", isOneOf: .string("silu"))
    let hidden = try config.size("hidden_size", default: 2880)
    let inner = try config.size("intermediate_size", default: 2880)
    if isPacked, !hidden.isMultiple(of: MXFP4.blockSize) || !inner.isMultiple(of: MXFP4.blockSize) {
      throw CheckpointError(
        config.path,
        "“hidden_size” \(hidden) and “intermediate_size” \(inner) must be multiples of 32 for MXFP4")
    }
    return try ModelDescription(
      MoEConfiguration(
        hiddenSize: hidden, feedForwardSize: inner,
        expertCount: config.size("num_local_experts", or: "num_experts", default: 128),
        expertsPerToken: config.size("num_experts_per_tok", default: 4),
        activation: .clampedSwiGLU(
          alpha: config.float("swiglu_alpha", default: 1.702), limit: config.float("swiglu_limit", default: 7)
        ),
        routing: .topKSoftmax),
      BlockLayout(
        router: RouterLayout(weight: "router.weight", bias: "router.bias"),
        experts: .stacked(
          StackedLayout(
            gateUp: "experts.gate_up_proj", down: "experts.down_proj", arrangement: .gateUpInterleaved,
            storage: isPacked ? .mxfp4 : .floats(.inputRows),
            gateUpBias: "experts.gate_up_proj_bias", downBias: "experts.down_proj_bias"))),
      layers: Array(0..<config.layerCount(default: 36)), at: { "model.layers.\($0).mlp" })
  }
}
