public import MoE
public import MoERun

extension TrainingDescription {
  /// The largest number of bytes per step. A batch has fewer rows than this.
  private static let largestStep = 1 << 31

  /// Checks every number. Call this before anything is computed with the numbers.
  ///
  /// - Throws: `MoEError.invalidConfiguration` naming the value and the expected range.
  public func validate() throws(MoEError) {
    try model.validate()
    try training.validate()
    _ = try product(
      of: [training.batchSize, model.contextLength], atMost: Self.largestStep,
      "a step has \(training.batchSize) sequences of \(model.contextLength) bytes")
  }
}
