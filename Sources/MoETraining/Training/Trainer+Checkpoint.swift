internal import Foundation
public import MoE
internal import MoECheckpoints

extension LanguageModel {
  /// The model of a run, as its seed makes it.
  convenience init(_ description: RunDescription, over ranks: Ranks? = nil, execution: Execution) throws {
    let training = description.training
    try training.validate()
    try self.init(
      description.model, seed: description.seed, precision: Precision(rawValue: training.precision)!,
      recording: training.recomputes ? .recompute : .full, over: ranks, execution: execution)
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
    try TrainingCheckpoint(model, nil).read(found.file)
    model.parametersChanged(after: nil)
    return (model, found.step, found.note)
  }
}

extension Trainer {
  /// Writes a checkpoint of this step, and keeps the one before. With ranks a collective.
  ///
  /// - Throws: ``TrainingError/diverged(step:_:checkpoint:)`` where a value is not finite, and the checkpoints stay as
  ///   they are; `CheckpointError` where it cannot be written.
  public func save() throws {
    let metadata = [
      "format": "pt", "step": "\(step)", "seed": "\(description.seed)",
      "model": RunDescription.json(description.model),
      "training": RunDescription.json(description.training),
    ]
    try noticingDivergence(at: step) {
      let checkpoint = TrainingCheckpoint(model, optimizer)
      guard let ranks else { return try folder.save(checkpoint, metadata: metadata) }
      let whole = try checkpoint.gathered(over: ranks)
      try ranks.onFirst("the checkpoint") { try folder.save(whole, metadata: metadata) }
    }
  }

  /// Takes the newest checkpoint that is whole, whatever number of ranks wrote it.
  func restore() throws {
    guard let found = try folder.findCheckpoint() else { return }
    for (key, expected) in [
      ("model", RunDescription.json(description.model)), ("seed", "\(description.seed)"),
    ] where found.file.metadata[key] != expected {
      throw CheckpointError(
        found.file.path,
        "it was written by another run: its \(key) is \(found.file.metadata[key] ?? "missing"), that of run.json "
          + "is \(expected)")
    }
    if found.step > description.training.steps {
      throw TrainingError.run(
        path: folder.path,
        "the run is at step \(found.step), expected at most \(description.training.steps), where it is to end"
      )
    }
    try TrainingCheckpoint(model, optimizer).read(found.file)
    model.parametersChanged(after: nil)
    step = found.step
    note = found.note
  }
}
