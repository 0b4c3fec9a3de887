import MoECore

/// A model family: the `model_type` of its config.json, and how the MoE blocks are described from such a file.
///
/// The rules are those of Hugging Face transformers 5.23.0 in single precision.
struct ModelFamily: Sendable {
  let modelType: String
  let describe: @Sendable (ConfigFile) throws -> ModelDescription

  init(_ modelType: String, _ describe: @escaping @Sendable (ConfigFile) throws -> ModelDescription) {
    self.modelType = modelType
    self.describe = describe
  }

  /// Every family that can be read.
  static let all: [ModelFamily] = [
    mixtral, qwen2MoE, qwen3MoE, olmoe, deepseekV2, deepseekV3, glm4MoE, dots1, ernie45MoE, graniteMoE,
    gptOSS,
    phiMoE, jamba, llama4Text, llama4, switchTransformers,
  ]
}

/// The MoE blocks of a model, described from its config.json. All of them have the same sizes and rules.
struct ModelDescription: Sendable {
  /// One MoE block.
  struct Block: Sendable, Equatable {
    /// Its name for the user, such as `7` or `encoder.1`.
    var name: String
    /// The start of its tensors' names, without the last dot.
    var prefix: String
  }

  var configuration: MoEConfiguration
  var layout: BlockLayout
  var blocks: [Block]

  /// Describes a decoder whose blocks are called by the index of their layer.
  init(_ configuration: MoEConfiguration, _ layout: BlockLayout, layers: [Int], at prefix: (Int) -> String) {
    self.init(configuration, layout, blocks: layers.map { Block(name: String($0), prefix: prefix($0)) })
  }

  init(_ configuration: MoEConfiguration, _ layout: BlockLayout, blocks: [Block]) {
    self.configuration = configuration
    self.layout = layout
    self.blocks = blocks
  }
}

extension ConfigFile {
  /// Returns this configuration, if its weights are not quantised.
  ///
  /// - Throws: ``CheckpointError`` naming the method of quantisation.
  func unquantized() throws(CheckpointError) -> ConfigFile {
    guard has("quantization_config") else { return self }
    let method = try object("quantization_config").members["quant_method"]?.kind ?? "missing"
    throw CheckpointError(
      path,
      "“quant_method” in “quantization_config” is \(method), supported is a checkpoint without quantization")
  }

  /// Returns the number of layers, at most 65536, so that all of them can be listed.
  func layerCount(_ key: String = "num_hidden_layers", or alias: String? = nil, default value: Int)
    throws(CheckpointError) -> Int
  {
    try integer(key, or: alias, default: value, in: 0...1 << 16)
  }
}
