internal import Foundation
public import MoE
internal import MoECheckpoints

extension LanguageModel {
  /// The model of a run, as its seed makes it.
  convenience init(_ description: RunDescription, execution: Execution) throws(MoEError) {
    let training = description.training
    try training.validate()
    try self.init(
      description.model, seed: description.seed, precision: Precision(rawValue: training.precision)!,
      recording: training.recomputes ? .recompute : .full, execution: execution)
  }

  /// The model of a run's newest checkpoint, to be used and not trained further.
  ///
  /// - Returns: the model, the step, and why an older checkpoint was taken where it was.
  /// - Throws: ``TrainingError`` or `CheckpointError` naming the file and what is wrong with it.
  public static func load(
    from folder: RunFolder, execution: Execution
  ) throws -> (model: LanguageModel, step: Int, note: String?) {
    let model = try LanguageModel(folder.description(), execution: execution)
    guard let found = try folder.findCheckpoint() else {
      throw TrainingError.run(path: folder.path, "the run has no checkpoint yet")
    }
    try TrainingCheckpoint(model, nil).read(found.content, over: CheckpointRanks(nil))
    model.parametersChanged(after: nil)
    return (model, found.step, found.note)
  }
}

extension Trainer {
  /// The ranks that have a part of the model each.
  private var ranks: CheckpointRanks { CheckpointRanks(nil) }

  /// Writes a checkpoint of this step, and keeps the one before.
  ///
  /// - Throws: ``TrainingError/diverged(step:_:checkpoint:)`` where a value is not finite, and the checkpoints stay as
  ///   they are; `CheckpointError` where it cannot be written.
  public func save() throws {
    try noticingDivergence(at: step) {
      try folder.save(
        TrainingCheckpoint(model, optimizer), step: step,
        metadata: [
          "format": "pt", "step": "\(step)", "seed": "\(description.seed)",
          "model": RunDescription.json(description.model),
          "training": RunDescription.json(description.training),
        ], over: ranks)
    }
  }

  /// Takes the newest checkpoint that is whole.
  func restore() throws {
    if ranks.rank == 0 { folder.removeLeftovers() }
    guard let found = try folder.findCheckpoint(over: ranks) else { return }
    for (key, expected) in [
      ("model", RunDescription.json(description.model)), ("seed", "\(description.seed)"),
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
  }
}
