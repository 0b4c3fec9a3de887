import Foundation
import MoE
import MoECheckpoints

/// The MoE block of one layer of a checkpoint folder, packed: what `apply` runs and `check --fixtures` judges.
struct CheckpointBlock {
  let modelType: String
  let layer: MoELayer

  /// Reads and packs a block, with progress on a terminal's stderr.
  init(checkpoint: Checkpoint, layer name: String, precision: Precision, execution: Execution) throws {
    let block = try checkpoint.layer(name)
    modelType = checkpoint.modelType
    layer = try MoELayer(
      block.configuration, weights: ProgressingSource(source: block, count: block.configuration.expertCount),
      precision: precision, execution: execution)
  }
}

/// Activations of a safetensors file.
struct ActivationFile {
  let activations: Activations
  /// The file and tensor, for messages.
  let origin: String

  /// Reads the tensor `name`, or the one tensor of the file.
  ///
  /// - Throws: `CheckpointError` where it is missing, not of floats, or ambiguous.
  init(path: String, tensor name: String?) throws {
    let file = try SafetensorsFile(path: path)
    let chosen = try name ?? Self.onlyName(file)
    let tensor = try file.tensor(chosen)
    guard let columns = tensor.shape.last else {
      throw CheckpointError(path, "tensor “\(chosen)” is a scalar, expected […, D]")
    }
    let values = try file.floats(named: chosen)
    let tokens = try Matrix(
      rows: columns == 0 ? 0 : values.count / columns, columns: columns, elements: values)
    activations = try Activations(shape: tensor.shape, tokens: tokens)
    origin = "\(path): tensor “\(chosen)”"
  }

  private static func onlyName(_ file: SafetensorsFile) throws -> String {
    guard file.names.count == 1 else {
      throw CheckpointError(
        file.path,
        "the file holds \(file.names.count) tensors (\(file.names.prefix(8).joined(separator: ", "))); name one with --tensor"
      )
    }
    return file.names[0]
  }
}

/// A source that tells on a terminal how many experts have been packed, once that takes longer than a moment.
private struct ProgressingSource<Source: MoEWeightSource>: MoEWeightSource {
  let source: Source
  let count: Int
  let start = Date()
  let isShown = isatty(STDERR_FILENO) == 1

  func router() throws -> RouterWeights { try source.router() }
  func denseBranch() throws -> FeedForwardWeights { try source.denseBranch() }
  func denseBranchGate() throws -> BranchGateWeights { try source.denseBranchGate() }

  func expert(_ index: Int) throws -> FeedForwardWeights {
    if isShown, Date().timeIntervalSince(start) > 0.5 {
      let line = "\rpacking expert \(index + 1) of \(count)" + (index + 1 == count ? "\n" : "")
      FileHandle.standardError.write(Data(line.utf8))
    }
    return try source.expert(index)
  }
}
