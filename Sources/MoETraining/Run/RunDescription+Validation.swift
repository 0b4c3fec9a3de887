public import MoE

extension RunDescription {
  /// The version of `run.json` that this program writes and reads.
  static let knownFormat = 1
  /// The most bytes of a step: a batch has fewer rows than this.
  private static let largestStep = 1 << 31

  /// Checks every number, before anything is computed with it.
  ///
  /// - Throws: `MoEError.invalidConfiguration` naming the value, and the expected one.
  public func validate() throws(MoEError) {
    guard format == Self.knownFormat else {
      throw .invalidConfiguration(
        "“format” is \(format), expected \(Self.knownFormat): another version of the program wrote it")
    }
    try model.validate()
    try training.validate()
    _ = try product(
      of: [training.batchSize, model.contextLength], atMost: Self.largestStep,
      "a step has \(training.batchSize) sequences of \(model.contextLength) bytes")
  }
}
