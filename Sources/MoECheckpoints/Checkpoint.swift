import MoECore

/// A checkpoint folder of Hugging Face transformers, for reading its MoE blocks.
///
/// Opening it reads config.json and the headers of all safetensors files. Weights are read when a layer asks for
/// them.
///
/// ```swift
/// let checkpoint = try Checkpoint(folder: "Qwen3-30B-A3B")
/// let layer = try checkpoint.layer("7")
/// let expert = try layer.expert(0)  // gate [F, D], up [F, D], down [D, F]
/// ```
public struct Checkpoint: Sendable {
  private let files: CheckpointFolder
  private let description: ModelDescription
  /// `model_type` of config.json.
  public let modelType: String

  /// Opens a folder with config.json and either model.safetensors or model.safetensors.index.json and shards.
  ///
  /// - Throws: ``CheckpointError`` naming the file, and the tensor or key that is missing, malformed, not supported, or
  ///   in contradiction to another.
  public init(folder: String) throws { try self.init(CheckpointFolder(path: folder)) }

  /// Opens a folder whose files are in memory, by name.
  package init(files: [String: [UInt8]]) throws { try self.init(CheckpointFolder(files: files)) }

  private init(_ files: CheckpointFolder) throws {
    self.files = files
    let config = files.config
    let modelType = try config.string("model_type")
    self.modelType = modelType
    guard let family = ModelFamily.all.first(where: { $0.modelType == modelType }) else {
      throw CheckpointError(
        config.path,
        "“model_type” is \(quoted(modelType)), supported is \(Self.supportedModelTypes.joined(separator: ", "))"
      )
    }
    do {
      description = try family.describe(config)
    } catch let error as MoEError {
      throw CheckpointError(config.path, error.description)
    }
  }

  /// Every `model_type` that can be read.
  public static var supportedModelTypes: [String] { ModelFamily.all.map(\.modelType).sorted() }

  /// The paths of the files that are read, and of all others of the folder but safetensors files that no index names.
  package var filePaths: [String] { files.filePaths }

  /// The names of the layers that have an MoE block: `"0"`, `"1"`, … for decoders, `"encoder.1"`, … for
  /// encoder–decoder models.
  public var moeLayers: [String] { description.blocks.map(\.name) }

  /// Returns the MoE block of one layer.
  ///
  /// Checks first that the block has every tensor of its configuration, with the right shape and type, and no other.
  /// Reading weights later finds no such fault.
  ///
  /// - Parameter name: one of ``moeLayers``.
  /// - Throws: ``CheckpointError`` naming the tensor, or the layers that have an MoE block.
  public func layer(_ name: String) throws(CheckpointError) -> CheckpointLayer {
    guard let block = description.blocks.first(where: { $0.name == name }) else {
      let known =
        moeLayers.isEmpty ? "no layer has one" : "the layers that have one are \(abridged(moeLayers))"
      throw CheckpointError(files.path, "layer \(quoted(name)) has no MoE block: \(known)")
    }
    let layer = CheckpointLayer(
      name: name, configuration: description.configuration, prefix: block.prefix,
      layout: description.layout, folder: files)
    try layer.check()
    return layer
  }
}

/// Returns a list of names; of more than 100 names only the first 50.
private func abridged(_ names: [String]) -> String {
  names.count <= 100
    ? names.joined(separator: ", ")
    : "\(names.prefix(50).joined(separator: ", ")), … and \(names.count - 50) more"
}
