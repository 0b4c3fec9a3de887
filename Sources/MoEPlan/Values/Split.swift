/// How ranks divide the work: R = EP × DP × TP.
///
/// The ranks form DP groups of EP·TP consecutive ranks. Each group holds all experts. Within a group, TP consecutive
/// ranks hold the same experts, each rank a part of their F. Tokens are divided over all R ranks and travel only
/// within their group.
public struct Split: Sendable, Hashable, Codable, CustomStringConvertible {
  /// EP: the number of parts into which a group's experts are divided.
  public var expertParallel: Int
  /// DP: the number of groups that hold all experts.
  public var dataParallel: Int
  /// TP: the number of parts into which an expert's F is divided.
  public var tensorParallel: Int
  /// n: the number of slices of an exchange, with about equal rows. With 1 nothing overlaps.
  public var overlap: Int

  /// Makes a split.
  public init(expertParallel: Int, dataParallel: Int = 1, tensorParallel: Int = 1, overlap: Int = 1) {
    self.expertParallel = expertParallel
    self.dataParallel = dataParallel
    self.tensorParallel = tensorParallel
    self.overlap = overlap
  }

  /// R, the number of ranks.
  public var rankCount: Int { expertParallel * dataParallel * tensorParallel }
  /// The number of ranks among which a token travels.
  var groupSize: Int { expertParallel * tensorParallel }
  /// `EP 4 × DP 2 × TP 1, 2 slices`.
  public var description: String {
    "EP \(expertParallel) × DP \(dataParallel) × TP \(tensorParallel), "
      + (overlap == 1 ? "no overlap" : "\(overlap) slices")
  }

  /// Checks the split against a model and a number of ranks.
  ///
  /// - Throws: ``PlanError`` that names the number that does not fit.
  package func validate(_ model: ModelShape, rankCount: Int) throws(PlanError) {
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
