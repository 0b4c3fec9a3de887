internal import Foundation
internal import MoE
internal import MoECheckpoints

/// The matrices of a model and of its optimizer's state, each in its logical shape under its own name. The bytes of
/// the files depend only on the values and on the number of ranks.
package struct TrainingCheckpoint {
  /// The matrices that this rank holds.
  package let entries: [CheckpointEntry]
  private let readsAll: Bool

  /// - Parameter optimizer: the optimizer whose state is part of the checkpoint; nil to read the model alone.
  init(_ model: LanguageModel, _ optimizer: (any Optimizer)?) {
    readsAll = optimizer != nil
    let parameters = model.parameters.flatMap { parameter in
      parameter.tensors.map { tensor in
        CheckpointEntry(
          name: tensor.name, shape: tensor.shape,
          read: { parameter.matrix(tensor, in: parameter.values) },
          write: { parameter.set($0, tensor, in: parameter.values) })
      }
    }
    let biases = model.selectionBiases.sorted { $0.key < $1.key }.map { name, bias in
      CheckpointEntry(
        name: name, shape: [1, bias.count],
        read: { try! Matrix(rows: 1, columns: bias.count, elements: model.selectionBiases[name]!) },
        write: { model.selectionBiases[name] = $0.elements })
    }
    let states = optimizer?.state ?? []
    entries =
      parameters + biases
      + states.map { CheckpointEntry(name: $0.name, shape: $0.shape, read: $0.read, write: $0.write) }
  }

  /// - Parameter readsAll: whether matrices of an optimizer that are not among the entries are an error.
  package init(entries: [CheckpointEntry], readsAll: Bool) {
    self.entries = entries
    self.readsAll = readsAll
  }

  /// Writes one file with a ``CheckpointSeal``.
  ///
  /// - Throws: ``TrainingError/notFinite(what:)`` naming the first matrix with a NaN or infinity, before anything is
  ///   written; `CheckpointError` where the file cannot be written.
  func write(to path: String, metadata: NamedValues<String>) throws {
    var writer = SafetensorsWriter(metadata: metadata)
    for entry in entries {
      let matrix = entry.read()
      if !matrix.isFinite { throw TrainingError.notFinite(what: "a value of \(entry.name)") }
      try writer.add(entry.name, matrix)
    }
    CheckpointSeal.seal(&writer)
    try writer.write(to: path)
  }

  /// Checks every name, type and shape, then reads this rank's matrices. A collective.
  ///
  /// - Throws: `CheckpointError`, equal on all ranks, naming a tensor that is missing, has another shape, or is held
  ///   by no rank. No value has changed then.
  package func read(_ content: any CheckpointContent, over ranks: CheckpointRanks) throws {
    let label = "checkpoint \(content.path)"
    try ranks.agree(step: label) {
      for entry in entries { try content.check(entry.name, shape: entry.shape) }
    }
    let expected = Set(try ranks.gather(entries.map(\.name), step: label).joined())
    if let extra = content.names.first(where: {
      !expected.contains($0) && (readsAll || !$0.hasPrefix("optimizer."))
    }) {
      throw CheckpointError(content.path, "tensor \(quoted(extra)) is none of this model")
    }
    for entry in entries { entry.write(try content.matrix(named: entry.name)) }
  }
}
