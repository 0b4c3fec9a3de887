public import MoECore

/// The sums over groups of tokens from which a router's losses are made, as integers.
///
/// Add the statistics of the micro-batches first, then compute the losses from the sum: a loss that averages over the
/// batch is not the mean of the micro-batches' losses. The gradients of such a loss fit the backward pass of each
/// micro-batch. The sum of these passes is the backward pass of the whole batch.
public struct RouterStatistics: Sendable, Equatable {
  /// The groups.
  public let grouping: TokenGrouping
  /// E.
  public let expertCount: Int
  /// K.
  public let expertsPerToken: Int
  /// `[G]`: the number of tokens that are not masked.
  public package(set) var tokenCounts: [Int64]
  /// `[G, E]`: the number of choices of each expert before dropping.
  public package(set) var counts: [Int64]
  /// `[G, E]`: the number of first choices of each expert before dropping.
  public package(set) var firstChoiceCounts: [Int64]
  /// `[G, E]`: Σ over tokens of each expert's probability in units of 2⁻³⁰.
  public package(set) var probabilitySums: [Int64]
  /// Σ over tokens of (ln Σ exp(logit))². Unlike the integers it is rounded, so it depends on the order of addition.
  public package(set) var logSumExpSquares: Double

  /// Makes statistics of no tokens, in G groups.
  ///
  /// - Parameters:
  ///   - grouping: the groups; a grouping by sequence has no groups yet.
  ///   - expertCount: E.
  ///   - expertsPerToken: K.
  public init(grouping: TokenGrouping, expertCount: Int, expertsPerToken: Int) {
    self.init(
      grouping: grouping, expertCount: expertCount, expertsPerToken: expertsPerToken, tokenCount: 0)
  }

  package init(grouping: TokenGrouping, expertCount: Int, expertsPerToken: Int, tokenCount: Int) {
    let groups = max(grouping.groupCount(tokenCount: tokenCount), 0)
    self.grouping = grouping
    self.expertCount = expertCount
    self.expertsPerToken = expertsPerToken
    tokenCounts = Array(repeating: 0, count: groups)
    counts = Array(repeating: 0, count: groups * expertCount)
    firstChoiceCounts = counts
    probabilitySums = counts
    logSumExpSquares = 0
  }

  /// The number of groups, G.
  public var groupCount: Int { tokenCounts.count }

  /// The number of tokens that are not masked, over all groups.
  public var routedTokenCount: Int { Int(tokenCounts.reduce(0, +)) }

  /// Returns the statistics of two batches taken as one. Sums over the batch or over positions are added; the sequences
  /// of `right` follow those of `left`.
  ///
  /// - Throws: `MoEError.invalidConfiguration` for statistics with different groups or numbers of experts.
  public static func + (left: Self, right: Self) throws(MoEError) -> Self {
    guard
      left.grouping == right.grouping, left.expertCount == right.expertCount,
      left.expertsPerToken == right.expertsPerToken
    else {
      throw .invalidConfiguration(
        "statistics of a \(left.grouping), \(left.expertCount) experts and top-\(left.expertsPerToken) cannot be "
          + "added to those of a \(right.grouping), \(right.expertCount) experts and top-\(right.expertsPerToken)"
      )
    }
    var both = left
    both.logSumExpSquares += right.logSumExpSquares
    for table in [\Self.tokenCounts, \.counts, \.firstChoiceCounts, \.probabilitySums] {
      if case .sequence = left.grouping {
        both[keyPath: table] += right[keyPath: table]
      } else {
        for (index, value) in right[keyPath: table].enumerated() { both[keyPath: table][index] += value }
      }
    }
    return both
  }

  /// The sums over all groups.
  public var ofBatch: RouterStatistics {
    var batch = Self(grouping: .batch, expertCount: expertCount, expertsPerToken: expertsPerToken)
    batch.tokenCounts[0] = tokenCounts.reduce(0, +)
    batch.logSumExpSquares = logSumExpSquares
    for table in [\Self.counts, \.firstChoiceCounts, \.probabilitySums] {
      for (index, value) in self[keyPath: table].enumerated() {
        batch[keyPath: table][index % expertCount] += value
      }
    }
    return batch
  }

  /// Returns the sum of an expert's probability over the tokens of a group.
  func probabilitySum(_ group: Int, _ expert: Int) -> Double {
    Double(probabilitySums[group * expertCount + expert]) * 0x1p-30
  }

  /// Returns a selection bias moved towards balance: b + rate·sign(mean count − count), once per batch (DeepSeek-V3
  /// §2.1.2, rate 0.001). The sign is computed in integers.
  ///
  /// - Precondition: there is one value per expert.
  public func updatedSelectionBias(_ bias: [Float], rate: Float = 0.001) -> [Float] {
    Self.updatedSelectionBias(bias, counts: ofBatch.counts, rate: rate)
  }

  /// Returns the updated selection bias, from the counts alone.
  package static func updatedSelectionBias(_ bias: [Float], counts: [Int64], rate: Float) -> [Float] {
    precondition(bias.count == counts.count, "\(bias.count) biases for \(counts.count) experts")
    let total = counts.reduce(0, +)
    return zip(bias, counts).map { $0 + rate * Float((total - Int64(counts.count) * $1).signum()) }
  }
}
