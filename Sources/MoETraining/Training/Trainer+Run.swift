internal import Foundation
internal import MoE
public import MoERun

/// How a run ended.
public enum RunEnd: Sendable, Equatable {
  /// With its last step.
  case finished
  /// Before it, because it was asked to, with a checkpoint.
  case stopped
}

extension Trainer {
  /// Trains to the last step: a line of metrics for each, validations and checkpoints when they are due.
  ///
  /// - Parameters:
  ///   - shouldStop: asked after every step; true ends the run with a checkpoint, on all ranks after the same step.
  ///   - report: told of every step once it is recorded; on the first rank alone.
  ///   - reportBalance: told where experts were placed, where ``Ranks/rebalancing`` asks for that; on the first rank alone.
  /// - Throws: what a step, a validation or a checkpoint throws; checkpoints stay whole.
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

  /// Whether any rank was asked to stop.
  ///
  /// - Parameter recorded: what came of writing the step down, which only the first rank does.
  /// - Throws: its error, on all ranks.
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

  /// The mean loss over the held-out sequences, in nats a byte; writes `routing.json`.
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

  /// Writes `sample.txt`: what the model says after an empty line.
  public func writeSample(byteCount: Int = 600) throws {
    var generator = try TextGenerator(model, prompt: [], seed: description.seed)
    var bytes: [UInt8] = []
    for _ in 0..<byteCount { bytes.append(try generator.next()) }
    try onFirst("the sample of text") {
      try folder.write(String(decoding: bytes, as: UTF8.self), to: folder.samplePath)
    }
  }
}
