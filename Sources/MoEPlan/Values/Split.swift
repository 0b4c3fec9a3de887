/// How ranks divide the work: R = EP × DP × TP.
///
/// The ranks are DP groups of EP·TP consecutive ranks. Each group has all experts; within it, TP consecutive ranks hold
/// the same experts, each a part of their F. Tokens are divided over all R ranks, and travel within their group.
public struct Split: Sendable, Hashable, Codable, CustomStringConvertible {
  /// EP: parts that a group's experts are in.
  public var expertParallel: Int
  /// DP: groups that have all experts.
  public var dataParallel: Int
  /// TP: parts that the F of an expert is in.
  public var tensorParallel: Int
  /// n: slices of an exchange, of about equal rows; 1 does not overlap.
  public var overlap: Int

  /// Makes a split.
  public init(expertParallel: Int, dataParallel: Int = 1, tensorParallel: Int = 1, overlap: Int = 1) {
    self.expertParallel = expertParallel
    self.dataParallel = dataParallel
    self.tensorParallel = tensorParallel
    self.overlap = overlap
  }

  /// R.
  public var rankCount: Int { expertParallel * dataParallel * tensorParallel }
  /// Ranks among which a token travels.
  var groupSize: Int { expertParallel * tensorParallel }
  /// `EP 4 × DP 2 × TP 1, 2 slices`.
  public var description: String {
    "EP \(expertParallel) × DP \(dataParallel) × TP \(tensorParallel), "
      + (overlap == 1 ? "no overlap" : "\(overlap) slices")
  }

  /// Checks the split against a model and a number of ranks.
  ///
  /// - Throws: ``PlanError`` naming the part that does not fit.
  public func validate(_ model: ModelShape, rankCount: Int) throws(PlanError) {
    for (name, size) in [
      ("EP", expertParallel), ("DP", dataParallel), ("TP", tensorParallel), ("the overlap degree", overlap),
    ] {
      try require((1...1 << 17).contains(size), "\(name) is \(size), expected at least 1")
    }
    let (product, overflow) = groupSize.multipliedReportingOverflow(by: dataParallel)
    try require(
      !overflow && product == rankCount,
      "EP × DP × TP is \(expertParallel) × \(dataParallel) × \(tensorParallel) = \(product), expected the "
        + "cluster's \(rankCount) ranks")
    try require(
      expertParallel <= model.expertCount,
      "EP is \(expertParallel), more than the \(model.expertCount) experts; raise DP or TP instead")
    try require(
      model.feedForwardSize % tensorParallel == 0,
      "TP is \(tensorParallel), which does not divide F = \(model.feedForwardSize)")
    try require(
      overlap <= 64,
      "the overlap degree is \(overlap), expected 1 to 64: shorter slices cost more than they hide")
  }
}
