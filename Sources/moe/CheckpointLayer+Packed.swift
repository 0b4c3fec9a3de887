import Foundation
import MoE
import MoECheckpoints

extension CheckpointLayer {
  /// The block packed, with progress on a terminal's stderr: what `apply` runs and `check --fixtures` judges.
  func packed(_ precision: Precision, _ execution: Execution) throws -> MoELayer {
    try MoELayer(
      configuration, weights: ProgressingSource(source: self, count: configuration.expertCount),
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
  /// - Throws: `CheckpointError` where it is missing, ambiguous, not of floats or not finite.
  init(path: String, tensor name: String?) throws {
    let file = try SafetensorsFile(path: path)
    let chosen = try Self.choose(name, of: file)
    let shape = try file.tensor(chosen).shape
    let values = try file.floats(named: chosen)
    origin = "\(path): tensor \(quoted(chosen))"
    guard let columns = shape.last, columns > 0 else {
      throw CheckpointError(origin, "has shape \(shape), expected […, D]")
    }
    if let place = values.firstIndex(where: { !$0.isFinite }) {
      throw CheckpointError(
        origin,
        "token \(place / columns) has \(values[place]) in column \(place % columns), expected a number")
    }
    let tokens = try Matrix(rows: values.count / columns, columns: columns, elements: values)
    activations = try Activations(shape: shape, tokens: tokens)
  }

  /// Checks that the tokens fit the layers of `checkpoint`, before one of them is read.
  func require(hiddenSize: Int, of checkpoint: String) throws(CheckpointError) {
    if activations.tokens.columns != hiddenSize {
      throw CheckpointError(
        origin,
        "has shape \(activations.shape), expected […, \(hiddenSize)], the hidden size of \(checkpoint)")
    }
  }

  private static func choose(_ name: String?, of file: SafetensorsFile) throws(CheckpointError) -> String {
    let names = file.names.sorted()
    let list =
      names.isEmpty
      ? "no tensor" : names.prefix(20).map(quoted).joined(separator: ", ") + (names.count > 20 ? ", …" : "")
    if let name {
      if !names.contains(name) {
        throw CheckpointError(file.path, "tensor \(quoted(name)) is missing, the file holds \(list)")
      }
      return name
    }
    guard names.count == 1 else {
      throw CheckpointError(file.path, "holds \(list), expected one tensor or its name as --tensor")
    }
    return names[0]
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
