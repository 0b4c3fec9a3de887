public import MoE

/// The settings of training. Together with the model, the seed and the text, they decide the bits of a run.
public struct TrainingConfiguration: Codable, Sendable, Equatable {
  /// The number of steps of the run.
  public var steps: Int
  /// B, the number of sequences per step, each as long as the model's context.
  public var batchSize: Int
  /// The number of parts in which a batch is computed. It does not change the result.
  public var microBatchCount = 1
  /// The update rule and its constants.
  public var optimizer = OptimizerConfiguration(.adamw, weightDecay: 0.1)
  /// The learning rate of every step.
  public var schedule: LearningRateSchedule
  /// The factor of the learning rate of routed experts.
  public var expertLearningRateFactor = 1.0
  /// The limit of the gradients' norm.
  public var clip = GradientClip(norm: 1)
  /// `f32`, or `bf16` for products in bfloat16 with parameters in fp32.
  public var precision = Precision.float32.rawValue
  /// Whether the backward pass computes activations again, instead of keeping them from the forward pass.
  public var recomputes = false
  /// Steps from one validation to the next.
  public var validateEvery = 100
  /// Steps from one checkpoint to the next.
  public var saveEvery = 100
  /// Whether each label is drawn equally often; otherwise it is drawn in proportion to its bytes.
  public var balancesLabels = false

  /// Makes settings, with usual values for all that have no argument.
  public init(steps: Int, batchSize: Int, schedule: LearningRateSchedule) {
    self.steps = steps
    self.batchSize = batchSize
    self.schedule = schedule
  }

  /// Checks every setting.
  ///
  /// - Throws: `MoEError.invalidConfiguration` naming the setting that is out of range, and its range.
  public func validate() throws(MoEError) {
    for (name, value, range) in [
      ("number of steps", steps, 1...1_000_000_000), ("batch size", batchSize, 1...1 << 20),
      ("number of micro-batches", microBatchCount, 1...1 << 20),
      ("number of warm-up steps", schedule.warmupSteps, 0...1_000_000_000),
      ("validation interval", validateEvery, 1...1_000_000_000),
      ("checkpoint interval", saveEvery, 1...1_000_000_000),
    ] where !range.contains(value) {
      throw .invalidConfiguration(
        "the \(name) is \(value), expected \(range.lowerBound) to \(range.upperBound)")
    }
    if batchSize % microBatchCount != 0 {
      throw .invalidConfiguration(
        "\(microBatchCount) micro-batches do not divide a batch of \(batchSize) sequences")
    }
    for (name, value) in [
      ("learning rate", schedule.peak), ("experts' learning-rate factor", expertLearningRateFactor),
      ("clipping norm", clip.norm ?? 1),
    ] where !(value > 0 && value.isFinite) {
      throw .invalidConfiguration("the \(name) is \(value), expected a positive number")
    }
    guard (0...1).contains(schedule.floor) else {
      throw .invalidConfiguration(
        "the share of the learning rate at the last step is \(schedule.floor), expected 0 to 1")
    }
    guard Precision(rawValue: precision) != nil else {
      throw .invalidConfiguration("the precision is “\(precision)”, expected f32 or bf16")
    }
    try optimizer.validate()
  }
}
