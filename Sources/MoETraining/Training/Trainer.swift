internal import ExpertParallel
internal import Foundation
public import MoE
public import MoERun

/// A model on its way: the parameters, the optimizer's memory and the step they belong to.
///
/// What a step does depends on the description of the run, the text and the number of the step alone, so a run that
/// was interrupted and resumed ends with the same bits.
public final class Trainer {
  /// What is trained, on what and how.
  public private(set) var description: TrainingDescription
  /// The model; another one after experts have been placed anew.
  public internal(set) var model: LanguageModel
  /// The text it is judged by.
  public let heldOut: HeldOutSequences
  /// Steps done.
  public internal(set) var step = 0
  /// Why an older checkpoint than the newest was taken, where it was.
  public internal(set) var note: String?
  /// The ranks that train it; nil where there is one.
  public let ranks: Ranks?
  /// Checkpoints that were passed over because they are not whole.
  var damaged: Set<String> = []
  var optimizer: any Optimizer
  let folder: RunFolder
  private let sampler: BatchSampler
  let execution: Execution

  /// Prepares a run at step 0, or at its newest checkpoint. With ranks a collective, as all that follows is; only the
  /// first of them writes to the folder.
  ///
  /// - Parameters:
  ///   - description: the run, as new or as read from its folder.
  ///   - corpus: its text.
  ///   - folder: where it lives; claimed for this process.
  ///   - resumes: whether to go on from what the folder holds.
  ///   - ranks: those that train together; nil for this one alone.
  ///   - execution: the instruction set and threads.
  /// - Throws: ``TrainingError``, `MoEError` or `CheckpointError` naming what cannot be honoured; with ranks
  ///   `CommunicationError`, and `SharedFailure` for what all of them throw alike.
  public init(
    _ description: TrainingDescription, corpus: TextCorpus, folder: RunFolder, resumes: Bool,
    over ranks: Ranks? = nil, execution: Execution
  ) throws {
    let training = description.training
    if let ranks {
      try ranks.communicator.requireAgreement(
        on: description.sharedFacts(over: ranks, resumes: resumes, execution: execution))
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
  /// - Throws: ``TrainingError/diverged(step:_:checkpoint:)`` where a loss or a gradient is not finite; the
  ///   parameters are as they were then.
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
    return StepRecord(
      step: step, tokens: step * tokens, loss: outcome.loss, auxiliaryLoss: outcome.auxiliaryLoss,
      learningRate: rate, gradientNorm: .init(all: norm.all, expert: norm.expert, other: norm.other),
      seconds: seconds, tokensPerSecond: Double(tokens) / seconds,
      stages: stages,
      layers: outcome.layers.map {
        .init(
          layer: $0.layer, load: $0.load.map(Int.init), dropped: $0.dropped,
          entropy: ExpertLoad.entropy($0.load.map(Int.init)), balanceLoss: $0.balanceLoss, zLoss: $0.zLoss)
      })
  }

  /// Adds the step, and the last good checkpoint, to an error about numbers or between ranks.
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

  /// The first parameter that has left the numbers, for a message; empty where none has.
  private func brokenParameter() throws -> String {
    var found: (place: Int, text: String)?
    for (place, parameter) in model.parameters.enumerated() where found == nil {
      found = parameter.firstNotFinite(in: parameter.values).map { (place, ", as is a value of \($0)") }
    }
    return try (ranks?.first(found, step: "the search for NaN") ?? found?.text) ?? ""
  }

  /// Does what one rank does for all.
  func onFirst(_ step: String, _ body: () throws -> Void) throws {
    if let ranks { try ranks.onFirst(step, body) } else { try body() }
  }
}
