internal import ExpertParallel
internal import Foundation
public import MoE
public import MoERun

/// A model in training: its parameters, the optimizer's state and the number of steps done.
///
/// A step depends only on the description of the run, the text and the number of the step. So a run that was
/// interrupted and resumed ends with the bits of an uninterrupted run.
public final class Trainer {
  /// The model, the texts and the settings of the run.
  public private(set) var description: TrainingDescription
  /// The model. It is replaced when experts are placed anew.
  public internal(set) var model: LanguageModel
  /// The sequences on which the model is validated.
  public let heldOut: HeldOutSequences
  /// The number of steps done.
  public internal(set) var step = 0
  /// The reason why the loaded checkpoint is not the newest, or why damage to it cannot be noticed; nil if neither is
  /// the case.
  public internal(set) var note: String?
  /// The ranks that train the model together; nil for this process alone.
  public let ranks: Ranks?
  /// The names of checkpoints that were skipped because they are damaged.
  var damaged: Set<String> = []
  var optimizer: any Optimizer
  let folder: RunFolder
  private let sampler: BatchSampler
  let execution: Execution

  /// Prepares a run at step 0, or at its newest checkpoint. With ranks this and all other methods are collectives;
  /// only the first rank writes `run.json`, metrics and samples.
  ///
  /// - Parameters:
  ///   - description: a new run, or the run of the folder.
  ///   - corpus: the texts of the run.
  ///   - folder: the folder of the run, which is locked for this process.
  ///   - resumes: whether to continue the run in the folder; otherwise the folder must be empty or missing.
  ///   - ranks: the ranks that train together; nil for this process alone.
  ///   - execution: the instruction set and threads.
  /// - Throws: ``TrainingError``, `MoEError` or `CheckpointError` naming the value or file in error; with ranks
  ///   `CommunicationError`, `Disagreement` where ranks were asked for different things, and `SharedFailure` for other
  ///   errors that all of them throw.
  public init(
    _ description: TrainingDescription, corpus: TextCorpus, folder: RunFolder, resumes: Bool,
    over ranks: Ranks? = nil, execution: Execution
  ) throws {
    let training = description.training
    if let ranks {
      try ranks.communicator.requireAgreement(
        on: description.sharedFacts(over: ranks, in: folder, resumes: resumes, execution: execution))
    }
    try description.validate()
    let length = description.model.contextLength
    sampler = try BatchSampler(
      corpus, sequenceLength: length, batchSize: training.batchSize, seed: description.seed,
      balancesLabels: training.balancesLabels)
    heldOut = HeldOutSequences(corpus, sequenceLength: length)
    model = try LanguageModel(description, over: ranks, execution: execution)
    optimizer = try training.optimizer.optimizer(of: model.parameters, execution: execution)
    self.execution = execution
    self.ranks = ranks
    self.folder = folder
    self.description = description
    let counts = model.parameterCounts
    self.description.parameters = .init(
      total: counts.total, activePerToken: counts.activePerToken, experts: counts.experts)
    try onFirst("the folder of the run") {
      if !resumes { try folder.create() }
      try folder.lock()
      if resumes { folder.checkpoints.removeLeftovers() }
    }
    if resumes { try restore() }
    try onFirst("the folder of the run") { try folder.write(self.description) }
    if step == 0 { try save() }
  }

  /// Trains one step.
  ///
  /// - Throws: ``TrainingError/diverged(step:_:checkpoint:)`` where a loss or a gradient is not finite. The
  ///   parameters are then those before the step.
  public func trainStep() throws -> StepRecord {
    let number = step + 1
    let training = description.training
    var clock = StageClock()
    let batch = clock.measure(.data) { sampler.batch(at: number) }
    model.resetGradients()
    let outcome = try noticingDivergence(at: number) {
      try model.accumulateGradients(
        inputs: batch.inputs, targets: batch.targets, sequenceLength: description.model.contextLength,
        microBatchCount: training.microBatchCount,
        noiseSeed: description.seed &* 0x9E37_79B9_7F4A_7C15 &+ UInt64(number))
    }
    let norm = try noticingDivergence(at: number) {
      try clock.measure(.optimizer) {
        try GradientNorm(of: model.parameters, over: ranks, execution: execution)
      }
    }
    let rate = training.schedule.rate(at: number, of: training.steps)
    clock.measure(.optimizer) {
      optimizer.step(
        OptimizerUpdate(
          number: number, learningRate: .init(expert: rate * training.expertLearningRateFactor, other: rate),
          gradientScale: training.clip.scales(for: norm)))
      model.parametersChanged(after: outcome)
    }
    step = number
    return record(outcome, norm, rate, clock)
  }

  private func record(
    _ outcome: StepOutcome, _ norm: GradientNorm, _ rate: Double, _ clock: StageClock
  ) -> StepRecord {
    let tokens = description.training.batchSize * description.model.contextLength
    let seconds = clock.total
    var stages: [String: Double] = [:]
    for part in [clock.seconds, outcome.stageSeconds] {
      for (stage, seconds) in part { stages[stage.rawValue, default: 0] += seconds }
    }
    var record = StepRecord(
      step: step, tokens: step * tokens, loss: outcome.loss, auxiliaryLoss: outcome.auxiliaryLoss,
      learningRate: rate, gradientNorm: .init(all: norm.all, expert: norm.expert, other: norm.other),
      seconds: seconds, tokensPerSecond: Double(tokens) / seconds, stages: stages)
    record.layers = outcome.layers.map {
      .init(
        layer: $0.layer, load: $0.load.map(Int.init), dropped: $0.dropped,
        entropy: ExpertLoad.entropy($0.load.map(Int.init)), balanceLoss: $0.balanceLoss, zLoss: $0.zLoss)
    }
    return record
  }

  /// Calls `body`. Adds the step and the last good checkpoint to its errors about numbers or between ranks.
  func noticingDivergence<Result>(at step: Int, _ body: () throws -> Result) throws -> Result {
    var good: Int { folder.checkpoints.newestStep(besides: damaged) ?? 0 }
    func diverged(_ complaint: String) throws -> any Error {
      let error = TrainingError.diverged(
        step: step, "\(complaint)\(try brokenParameter())", checkpoint: good)
      return ranks == nil ? error : SharedFailure(error: error)
    }
    do {
      return try body()
    } catch TrainingError.notFinite(let what) {
      throw try diverged("\(TrainingError.notFinite(what: what))")
    } catch MoEError.diverged(let complaint) {
      throw try diverged(complaint)
    } catch let error as CommunicationError {
      throw TrainingError.interrupted(step: step, "\(error)", checkpoint: good)
    }
  }

  /// Returns a part of a message about the first parameter with a NaN or infinity; "" where all are finite. A
  /// collective.
  private func brokenParameter() throws -> String {
    var found: (place: Int, text: String)?
    for (place, parameter) in model.parameters.enumerated() where found == nil {
      found = parameter.firstNotFinite(in: parameter.values).map { (place, ", as is a value of \($0)") }
    }
    return try (ranks?.first(found, step: "the search for NaN") ?? found?.text) ?? ""
  }

  /// Calls `body` once: on the first rank, or on this process if it trains alone.
  func onFirst(_ step: String, _ body: () throws -> Void) throws {
    if let ranks { try ranks.onFirst(step, body) } else { try body() }
  }
}
