public import ArgumentParser
import MoE
public import MoETraining

extension ModelPreset: ExpressibleByArgument {}
extension OptimizerConfiguration.Kind: ExpressibleByArgument {}
extension LearningRateSchedule.Shape: ExpressibleByArgument {}

/// The settings of `moe train` that decide the results of a run; each has a usual value.
struct TrainOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "Paper whose routing rule, losses and places of experts are used (switch).",
      valueName: names(ModelPreset.self)))
  var preset: ModelPreset?
  @Option(help: "Layers (4).") var layers: Int?
  @Option(help: "Hidden size, a multiple of 32 (256).") var hidden: Int?
  @Option(help: "Attention heads (4).") var heads: Int?
  @Option(help: "Feed-forward size of the dense model, a multiple of 32 (1024).") var ffn: Int?
  @Option(help: "Experts per layer (8).") var experts: Int?
  @Option(help: "Bytes per sequence (256).") var context: Int?
  @Option(help: "Sequences per step (16).") var batch: Int?
  @Option(help: "Steps in all (500).") var steps: Int?
  @Option(help: "Seed of parameters and batches (1).") var seed: UInt64?
  @Option(help: ArgumentHelp("Optimizer (adamw).", valueName: names(OptimizerConfiguration.Kind.self)))
  var optimizer: OptimizerConfiguration.Kind?
  @Option(help: "Highest learning rate (adamw 0.001, adafactor 0.01, sgd 0.1).") var learningRate: Double?
  @Option(help: "Factor of the experts' learning rate (1).") var expertLearningRate: Double?
  @Option(help: "Steps until the highest learning rate (a tenth of all steps, at most 100).")
  var warmup: Int?
  @Option(
    help: ArgumentHelp(
      "Learning rate after the warm-up (cosine, to a tenth).",
      valueName: names(LearningRateSchedule.Shape.self)))
  var schedule: LearningRateSchedule.Shape?
  @Option(help: "Weight decay of matrices, per unit of learning rate (0.1).") var weightDecay: Double?
  @Option(help: "Largest norm of the gradients; 0 permits any (1).") var clip: Double?
  @Flag(help: "Clip experts and other parameters each by their own norm.") var clipGroups = false
  @Option(
    help: ArgumentHelp(
      "Number format of products; parameters stay fp32 (f32).", valueName: names(Precision.self)))
  var dtype: Precision?
  @Option(help: "Parts that each batch is computed in, to use less memory (1).") var microBatches: Int?
  @Flag(help: "Compute activations again in the backward pass, to use less memory.") var recompute = false
  @Option(help: "Steps between validations (100).") var validateEvery: Int?
  @Option(help: "Steps between checkpoints (100).") var saveEvery: Int?
  @Flag(help: "Draw each label equally often, rather than in proportion to its bytes.")
  var balanceLabels = false
  @Option(help: "Coefficient of the load-balance loss (the preset's).") var balanceCoefficient: Float?
  @Option(help: "Rows per expert, as a multiple of an equal share (the preset's).")
  var capacityFactor: Double?

  private static func names<Value: RawRepresentable<String> & CaseIterable>(_: Value.Type) -> String {
    Value.allCases.map(\.rawValue).joined(separator: "|")
  }

  /// The options that were given: their names and values.
  var given: [(name: String, value: String)] {
    let options: [(String, String?)] = [
      ("preset", preset?.rawValue), ("layers", layers.map(String.init)),
      ("hidden", hidden.map(String.init)), ("heads", heads.map(String.init)), ("ffn", ffn.map(String.init)),
      ("experts", experts.map(String.init)), ("context", context.map(String.init)),
      ("batch", batch.map(String.init)), ("steps", steps.map(String.init)), ("seed", seed.map { "\($0)" }),
      ("optimizer", optimizer?.rawValue), ("learning-rate", learningRate.map { "\($0)" }),
      ("expert-learning-rate", expertLearningRate.map { "\($0)" }), ("warmup", warmup.map(String.init)),
      ("schedule", schedule?.rawValue), ("weight-decay", weightDecay.map { "\($0)" }),
      ("clip", clip.map { "\($0)" }), ("clip-groups", clipGroups ? "true" : nil), ("dtype", dtype?.rawValue),
      ("micro-batches", microBatches.map(String.init)), ("recompute", recompute ? "true" : nil),
      ("validate-every", validateEvery.map(String.init)), ("save-every", saveEvery.map(String.init)),
      ("balance-labels", balanceLabels ? "true" : nil),
      ("balance-coefficient", balanceCoefficient.map { "\($0)" }),
      ("capacity-factor", capacityFactor.map { "\($0)" }),
    ]
    return options.compactMap { name, value in value.map { (name, $0) } }
  }

  func validate() throws {
    let ofExperts = [
      ("--expert-learning-rate", expertLearningRate != nil), ("--clip-groups", clipGroups),
    ]
    if preset == .dense, let option = ofExperts.first(where: \.1)?.0 {
      throw ValidationError("--preset dense has no experts, so \(option) has nothing to do; give one of both")
    }
    if clipGroups, clip == 0 {
      throw ValidationError(
        "--clip 0 permits any norm of the gradients, so --clip-groups has nothing to do; give one of both")
    }
  }

  /// The options with the usual values of those that were not given.
  var resolved: TrainOptions {
    var all = self
    all.preset = preset ?? .switchTransformer
    all.layers = layers ?? 4
    all.hidden = hidden ?? 256
    all.heads = heads ?? 4
    all.ffn = ffn ?? 1024
    all.experts = experts ?? 8
    all.context = context ?? 256
    all.batch = batch ?? 16
    all.steps = steps ?? 500
    all.seed = seed ?? 1
    all.optimizer = optimizer ?? .adamw
    all.learningRate = learningRate ?? OptimizerConfiguration(all.optimizer!).usualLearningRate
    all.expertLearningRate = expertLearningRate ?? 1
    all.warmup = warmup ?? min(100, all.steps! / 10)
    all.schedule = schedule ?? .cosine
    all.weightDecay = weightDecay ?? 0.1
    all.clip = clip ?? 1
    all.dtype = dtype ?? .float32
    all.microBatches = microBatches ?? 1
    all.validateEvery = validateEvery ?? 100
    all.saveEvery = saveEvery ?? 100
    return all
  }

  /// Returns the model; all options must be resolved.
  func model() throws -> ModelConfiguration {
    let preset = preset!
    guard (1...1024).contains(layers!) else {
      throw ValidationError("--layers is \(layers!), expected 1 to 1024")
    }
    guard (1...1 << 16).contains(experts!) else {
      throw ValidationError("--experts is \(experts!), expected 1 to 65536")
    }
    guard (32...1 << 20).contains(ffn!), ffn! % 32 == 0 else {
      throw ValidationError("--ffn is \(ffn!), expected a multiple of 32")
    }
    var blocks = preset.blocks(layerCount: layers!, feedForwardSize: ffn!, expertCount: experts!)
    if let factor = capacityFactor {
      guard factor > 0, factor.isFinite else {
        throw ValidationError("--capacity-factor is \(factor), expected a positive number")
      }
      guard blocks.contains(where: { $0.capacityFactor != nil }) else {
        throw ValidationError("\(preset.rawValue) drops nothing, so --capacity-factor has nothing to do")
      }
    }
    if balanceCoefficient != nil, !blocks.contains(where: \.isMoE) {
      throw ValidationError(
        "\(preset.rawValue) with \(layers!) layers has no experts, so --balance-coefficient has nothing to do"
      )
    }
    for index in blocks.indices where blocks[index].isMoE {
      if let factor = capacityFactor { blocks[index].capacityFactor = factor }
      if let coefficient = balanceCoefficient { blocks[index].balanceCoefficient = coefficient }
    }
    let model = ModelConfiguration(
      contextLength: context!, hiddenSize: hidden!, headCount: heads!, blocks: blocks)
    do {
      try model.validate()
    } catch {
      throw ValidationError("\(error)")
    }
    return model
  }

  /// Returns the training; all options must be resolved.
  func training() throws -> TrainingConfiguration {
    var training = TrainingConfiguration(
      steps: steps!, batchSize: batch!,
      schedule: LearningRateSchedule(schedule!, peak: learningRate!, warmupSteps: warmup!))
    training.microBatchCount = microBatches!
    training.optimizer = OptimizerConfiguration(optimizer!, weightDecay: weightDecay!)
    training.expertLearningRateFactor = expertLearningRate!
    training.clip = GradientClip(norm: clip! == 0 ? nil : clip!, byGroup: clipGroups)
    training.precision = dtype!.rawValue
    training.recomputes = recompute
    training.validateEvery = validateEvery!
    training.saveEvery = saveEvery!
    training.balancesLabels = balanceLabels
    do {
      try training.validate()
    } catch {
      throw ValidationError("\(error)")
    }
    return training
  }
}
