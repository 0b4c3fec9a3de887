internal import Foundation
internal import MoE
internal import MoECheckpoints

/// A model, and the memory of its optimizer, as one safetensors file: every matrix in its logical shape under its own
/// name. Its bytes depend on nothing but what was computed.
struct TrainingCheckpoint {
  /// A matrix of the file and where it belongs.
  struct Entry {
    var name: String
    var shape: [Int]
    var read: () -> Matrix
    var write: (Matrix) -> Void
  }

  /// Those of this rank.
  let entries: [Entry]
  private let ranks: Ranks?
  private let readsAll: Bool

  init(_ entries: [Entry]) {
    self.entries = entries
    ranks = nil
    readsAll = true
  }

  /// - Parameter optimizer: nil to read the model alone.
  init(_ model: LanguageModel, _ optimizer: (any Optimizer)?) {
    ranks = model.ranks
    readsAll = optimizer != nil
    let parameters = model.parameters.flatMap { parameter in
      parameter.tensors.map { tensor in
        Entry(
          name: tensor.name, shape: tensor.shape,
          read: { parameter.matrix(tensor, in: parameter.values) },
          write: { parameter.set($0, tensor, in: parameter.values) })
      }
    }
    let biases = model.selectionBiases.sorted { $0.key < $1.key }.map { name, bias in
      Entry(
        name: name, shape: [1, bias.count],
        read: { try! Matrix(rows: 1, columns: bias.count, elements: model.selectionBiases[name]!) },
        write: { model.selectionBiases[name] = $0.elements })
    }
    let states = optimizer?.state ?? []
    entries =
      parameters + biases
      + states.map { Entry(name: $0.name, shape: $0.shape, read: $0.read, write: $0.write) }
  }

  /// Writes the file.
  ///
  /// - Throws: ``TrainingError/notFinite(what:)`` naming the first matrix with a NaN or infinity, before anything is
  ///   written; `CheckpointError` where it cannot be.
  func write(to path: String, metadata: [String: String]) throws {
    var writer = SafetensorsWriter(metadata: metadata)
    for entry in entries {
      let matrix = entry.read()
      guard unsafe matrix.withUnsafeBufferPointer({ unsafe $0.allSatisfy(\.isFinite) }) else {
        throw TrainingError.notFinite(what: "a value of \(entry.name)")
      }
      try writer.add(entry.name, matrix)
    }
    try writer.write(to: path)
  }

  /// Reads the file into the model, after every name, type and shape was found to be what it should be. With ranks a
  /// collective: each takes what it holds.
  ///
  /// - Throws: `CheckpointError` naming a tensor that is missing, too many or misshapen; nothing was changed then.
  func read(_ file: SafetensorsFile) throws {
    let expected = try Set(ranks.map(names) ?? entries.map(\.name))
    for entry in entries {
      let tensor = try file.tensor(entry.name)
      guard tensor.shape == entry.shape, tensor.type == .float32 else {
        throw CheckpointError(
          file.path,
          "tensor \(quoted(entry.name)) is \(tensor.type.rawValue) of shape \(tensor.shape), expected F32 of "
            + "\(entry.shape)")
      }
    }
    if let extra = file.names.first(where: {
      !expected.contains($0) && (readsAll || !$0.hasPrefix("optimizer."))
    }) {
      throw CheckpointError(file.path, "tensor \(quoted(extra)) is none of this model")
    }
    for entry in entries { entry.write(try file.matrix(named: entry.name)) }
  }
}
