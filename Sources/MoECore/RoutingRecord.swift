/// What happened to the tokens of one forward pass: where each went, what was dropped and how near the
/// choice was.
///
/// The arrays are reused from pass to pass when the record is, so that a steady-state pass allocates nothing.
public struct RoutingRecord: Sendable, Equatable {
  /// T.
  public package(set) var tokenCount = 0
  /// E.
  public package(set) var expertCount = 0
  /// K.
  public package(set) var expertsPerToken = 0
  /// `[T, K]`: each token's experts, best first; −1 for a masked token.
  public package(set) var expertIDs: [Int32] = []
  /// `[T, K]`: the weights as applied; 0 where dropped or masked.
  public package(set) var expertWeights: [Float] = []
  /// `[T, K]`: the row of its expert that a choice got within its capacity scope; −1 where dropped or masked.
  public package(set) var slots: [Int32] = []
  /// `[T]`: the selection score of the last chosen expert less that of the best one not chosen; +∞ where all
  /// experts are chosen. A margin within rounding means that another machine may route otherwise.
  public package(set) var margins: [Float] = []
  /// `[T]`: ln Σ exp(logit).
  public package(set) var logSumExp: [Float] = []
  /// `[E]`: choices of each expert before dropping.
  public package(set) var counts: [Int64] = []
  /// `[E]`: first choices of each expert before dropping.
  public package(set) var firstChoiceCounts: [Int64] = []
  /// `[E]`: choices of each expert that were dropped.
  public package(set) var droppedCounts: [Int64] = []
  /// `[E]`: Σ over tokens of each expert's probability in units of 2⁻³⁰. Integers, so that the sum has the
  /// same bits in any order; each token's part is exact to 2⁻³¹.
  public package(set) var probabilitySums: [Int64] = []
  /// Tokens that took part: T less the masked.
  public package(set) var routedTokenCount = 0
  /// The capacity of one expert in one scope; nil where nothing can be dropped.
  public package(set) var capacity: Int?
  /// Which assignments ``loadBalanceLoss`` counts.
  public package(set) var loadBalance = RoutingPolicy.LoadBalance.allChoices

  /// Makes an empty record to pass to a layer.
  public init() {}

  /// The record of these tokens and those of a next part of the same batch: lists follow one another, sums are added.
  ///
  /// - Precondition: both are of the same layer.
  public func followed(by next: RoutingRecord) -> RoutingRecord {
    precondition(
      next.expertCount == expertCount && next.expertsPerToken == expertsPerToken,
      "records of different layers")
    var both = self
    both.tokenCount += next.tokenCount
    both.routedTokenCount += next.routedTokenCount
    both.expertIDs += next.expertIDs
    both.expertWeights += next.expertWeights
    both.slots += next.slots
    both.margins += next.margins
    both.logSumExp += next.logSumExp
    for sums in [\Self.counts, \.firstChoiceCounts, \.droppedCounts, \.probabilitySums] {
      both[keyPath: sums] = zip(self[keyPath: sums], next[keyPath: sums]).map { $0 + $1 }
    }
    return both
  }

  /// The number of choices dropped over all experts.
  public var droppedCount: Int { Int(droppedCounts.reduce(0, +)) }

  /// P: the mean probability of one expert over the routed tokens.
  public func meanProbability(_ expert: Int) -> Double {
    routedTokenCount == 0 ? 0 : Double(probabilitySums[expert]) * 0x1p-30 / Double(routedTokenCount)
  }

  /// E·Σ f·P with f the share of assignments before dropping: 1 when balanced, E when one expert takes all.
  /// The caller multiplies it by its coefficient (α = 0.01 in Switch Transformer §2.2).
  public var loadBalanceLoss: Float {
    guard routedTokenCount > 0 else { return 0 }
    let assigned = loadBalance == .firstChoice ? firstChoiceCounts : counts
    let total = Double(routedTokenCount * (loadBalance == .firstChoice ? 1 : expertsPerToken))
    var sum = 0.0
    for expert in 0..<expertCount { sum += Double(assigned[expert]) / total * meanProbability(expert) }
    return Float(sum * Double(expertCount))
  }

  /// The mean of (ln Σ exp(logit))² over the routed tokens (ST-MoE §3.3, eq. 5).
  public var routerZLoss: Float {
    guard routedTokenCount > 0 else { return 0 }
    var sum = 0.0
    for value in logSumExp { sum += Double(value) * Double(value) }
    return Float(sum / Double(routedTokenCount))
  }
}
