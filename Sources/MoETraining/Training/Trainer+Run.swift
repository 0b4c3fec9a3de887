internal import Foundation
internal import MoE
public import MoERun

/// How a run ended.
public enum RunEnd: Sendable, Equatable {
  /// The run did its last step.
  case finished
  /// The run was asked to stop before its last step, and wrote a checkpoint.
  case stopped
}

extension Trainer {
  /// Trains to the last step. Writes a line of metrics per step, and validates and saves when that is due.
  ///
  /// - Parameters:
  ///   - shouldStop: called after every step; true on any rank ends the run with a checkpoint, after one step that is
  ///     equal on all ranks.
  ///   - report: called on the first rank with every step, once its line is written.
  ///   - reportBalance: called on the first rank with every new placement of experts (``Ranks/rebalancing``).
  /// - Throws: the errors of steps, validations and checkpoints; the last checkpoint stays undamaged.
  public func run(
    shouldStop: () -> Bool = { false }, report: (StepRecord) -> Void = { _ in },
    reportBalance: (Rebalancing) -> Void = { _ in }
  ) throws -> RunEnd {
    let training = description.training
    var file: MetricsFile?
    var loads = ExpertLoads()
    try onFirst("the metrics") { file = try MetricsFile(path: folder.metricsPath, after: step) }
    while step < training.steps {
      var metrics = try trainStep()
      let isLast = step == training.steps
      if heldOut.count > 0 && (isLast || step % training.validateEvery == 0) {
        metrics.validationLoss = try validate()
      }
      let recorded = Result { try file?.append(metrics) }
      let stops = try agreesToStop(shouldStop(), after: recorded) && !isLast
      if isLast || stops || step % training.saveEvery == 0 { try save() }
      if file != nil { report(metrics) }
      if stops { return .stopped }
      guard let options = ranks?.rebalancing else { continue }
      loads.add(metrics)
      if step % options.interval == 0, !isLast {
        let balance = try noticingDivergence(at: step) { try rebalance(loads, options) }
        if file != nil, let balance { reportBalance(balance) }
        loads = ExpertLoads()
      }
    }
    return .finished
  }

  /// Returns whether any rank was asked to stop. A collective.
  ///
  /// - Parameters:
  ///   - isAsked: whether this rank was asked.
  ///   - recorded: the result of writing the step's metrics, which only the first rank does.
  /// - Throws: on all ranks the error of `recorded`.
  private func agreesToStop(_ isAsked: Bool, after recorded: Result<Void?, any Error>) throws -> Bool {
    guard let ranks else {
      try recorded.get()
      return isAsked
    }
    var hasFailed = false
    if case .failure = recorded { hasFailed = true }
    let worst = try noticingDivergence(at: step) {
      try ranks.largest(hasFailed ? 2 : isAsked ? 1 : 0, step: "the end of the step")
    }
    if worst == 2 { try onFirst("the metrics") { try recorded.get() } }
    return worst == 1
  }

  /// Writes `routing.json` and returns the mean loss over the held-out sequences, in nats per byte. With ranks a
  /// collective.
  public func validate() throws -> Double {
    let validation = try noticingDivergence(at: step) {
      let validation = try Validation(
        of: model, on: heldOut, batchSize: description.training.batchSize, step: step)
      if !validation.loss.isFinite { throw TrainingError.notFinite(what: "the validation loss") }
      return validation
    }
    try onFirst("the routes of the validation") {
      try folder.write(RunJSON.text(validation.routing) + "\n", to: folder.routingPath)
    }
    return validation.loss
  }

  /// Writes `sample.txt`: text that the model generates after a line feed. With ranks a collective.
  public func writeSample(byteCount: Int = 600) throws {
    var generator = try TextGenerator(model, prompt: [], seed: description.seed)
    var bytes: [UInt8] = []
    for _ in 0..<byteCount { bytes.append(try generator.next()) }
    try onFirst("the sample of text") {
      try folder.write(String(decoding: bytes, as: UTF8.self), to: folder.samplePath)
    }
  }
}
