import Foundation
import MoE
import MoECheckpoints

/// Activations of a safetensors file.
struct ActivationFile {
  let activations: Activations
  private let path: String
  private let name: String

  /// Reads the tensor `name`, or the one tensor of the file.
  ///
  /// - Throws: `CheckpointError` where it is missing, ambiguous, not of floats or not finite.
  init(path: String, tensor name: String?) throws {
    let file = try SafetensorsFile(path: path)
    let chosen = try Self.choose(name, of: file)
    let shape = try file.tensor(chosen).shape
    let values = try file.floats(named: chosen)
    (self.path, self.name) = (path, chosen)
    guard let columns = shape.last, columns > 0 else {
      throw CheckpointError(path, "tensor \(quoted(chosen)) has shape \(shape), expected […, D]")
    }
    if let place = values.firstIndex(where: { !$0.isFinite }) {
      throw CheckpointError(
        path,
        "tensor \(quoted(chosen)) has \(values[place]) in column \(place % columns) of token "
          + "\(place / columns), expected finite numbers")
    }
    let tokens = try Matrix(rows: values.count / columns, columns: columns, elements: values)
    activations = try Activations(shape: shape, tokens: tokens)
  }

  /// Checks that the tokens fit the layers of `checkpoint`, before one of them is read.
  func require(hiddenSize: Int, of checkpoint: String) throws(CheckpointError) {
    if activations.tokens.columns != hiddenSize {
      throw error(
        "has shape \(activations.shape), expected […, \(hiddenSize)], the hidden size of \(checkpoint)")
    }
  }

  /// A complaint about the tensor.
  func error(_ complaint: String) -> CheckpointError {
    CheckpointError(path, "tensor \(quoted(name)) \(complaint)")
  }

  private static func choose(_ name: String?, of file: SafetensorsFile) throws(CheckpointError) -> String {
    if let name {
      try file.require(name)
      return name
    }
    guard file.names.count == 1 else {
      throw CheckpointError(file.path, "holds \(file.list), expected one tensor or its name as --tensor")
    }
    return file.names[0]
  }
}

extension SafetensorsFile {
  /// The names of the tensors, the first twenty of them, for messages.
  var list: String {
    let names = names.sorted().prefix(20).map(quoted)
    return names.isEmpty
      ? "no tensor" : names.joined(separator: ", ") + (self.names.count > names.count ? ", …" : "")
  }

  /// Checks that the file has a tensor called `name`.
  func require(_ name: String) throws(CheckpointError) {
    if tensors[name] == nil {
      throw CheckpointError(path, "tensor \(quoted(name)) is missing, the file holds \(list)")
    }
  }
}
