internal import ExpertParallel
internal import Foundation
public import MoE
internal import MoECheckpoints
internal import MoERun

extension LanguageModel {
  /// Makes the model of a run with the initial parameters of the run's seed.
  convenience init(_ description: TrainingDescription, over ranks: Ranks? = nil, execution: Execution) throws
  {
    let training = description.training
    try training.validate()
    try self.init(
      description.model, seed: description.seed, precision: Precision(rawValue: training.precision)!,
      recording: training.recomputes ? .recompute : .full, over: ranks, execution: execution)
  }

  /// Loads the model of a run's newest checkpoint, without optimizer state.
  ///
  /// - Returns: the model, its step, and the reason why an older checkpoint was loaded; nil where the newest was.
  /// - Throws: ``TrainingError`` or `CheckpointError` naming the file and the error in it.
  public static func load(
    from folder: RunFolder, execution: Execution
  ) throws -> (model: LanguageModel, step: Int, note: String?) {
    let model = try LanguageModel(folder.description(), execution: execution)
    guard let found = try folder.checkpoints.find() else {
      throw TrainingError.run(path: folder.path, "the run has no checkpoint yet")
    }
    try TrainingCheckpoint(model, nil).read(found.content, over: CheckpointRanks(nil))
    model.parametersChanged(after: nil)
    return (model, found.step, found.note)
  }
}

extension Trainer {
  /// Writes a checkpoint of this step, and keeps the one before. With ranks a collective.
  ///
  /// - Throws: ``TrainingError/diverged(step:_:checkpoint:)`` where a value is not finite; `CheckpointError` where a
  ///   file cannot be written. No existing checkpoint is changed then.
  public func save() throws {
    try noticingDivergence(at: step) {
      try withCheckpointRanks { ranks in
        try folder.checkpoints.save(
          TrainingCheckpoint(model, optimizer), step: step,
          metadata: [
            "format": "pt", "step": "\(step)", "seed": "\(description.seed)",
            "model": RunJSON.text(description.model),
            "training": RunJSON.text(description.training),
          ], over: ranks, damaged: damaged)
      }
    }
    damaged = []
  }

  /// Loads the newest undamaged checkpoint. Any number of ranks may have written it.
  func restore() throws { try withCheckpointRanks(restore) }

  /// Calls `body`, whose errors about checkpoints are equal on all ranks, and marks them as shared.
  private func withCheckpointRanks(_ body: (CheckpointRanks) throws -> Void) throws {
    guard let ranks else { return try body(CheckpointRanks(nil)) }
    do {
      try ranks.patiently { try body(CheckpointRanks(ranks.communicator)) }
    } catch let error as CheckpointError {
      throw SharedFailure(error: error)
    } catch let error as TrainingError where !error.isOfNumbers {
      throw SharedFailure(error: error)
    }
  }

  private func restore(over ranks: CheckpointRanks) throws {
    guard let found = try folder.checkpoints.find(over: ranks) else { return }
    for (key, expected) in [
      ("model", RunJSON.text(description.model)), ("seed", "\(description.seed)"),
    ] where found.content.metadata[key] != expected {
      throw CheckpointError(
        found.content.path,
        "it was written by another run: its \(key) is \(found.content.metadata[key] ?? "missing"), that of run.json "
          + "is \(expected)")
    }
    if found.step > description.training.steps {
      throw TrainingError.run(
        path: folder.path,
        "the run is at step \(found.step), expected at most \(description.training.steps), where it is to end"
      )
    }
    try TrainingCheckpoint(model, optimizer).read(found.content, over: ranks)
    model.parametersChanged(after: nil)
    step = found.step
    note = found.note
    damaged = found.damaged
  }
}
