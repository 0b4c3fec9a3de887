/// The record of one forward pass: the experts of each token, the dropped choices and the margin of each choice.
///
/// If the caller passes the same record to every pass, its arrays are reused and a steady-state pass allocates nothing.
public struct RoutingRecord: Sendable, Equatable {
  /// T, the number of tokens.
  public package(set) var tokenCount = 0
  /// E, the number of experts.
  public package(set) var expertCount = 0
  /// K, the number of experts per token.
  public package(set) var expertsPerToken = 0
  /// `[T, K]`: each token's experts, best first; −1 for a masked token, and −2 − e for a second expert e that the rule of
  /// the second choice does not take.
  public package(set) var expertIDs: [Int32] = []
  /// `[T, K]`: the weights as applied; 0 for a dropped choice and for a masked token.
  public package(set) var expertWeights: [Float] = []
  /// `[T, K]`: the slot of each choice, which is its row in its expert within its capacity scope; −1 for a dropped
  /// choice and for a masked token.
  public package(set) var slots: [Int32] = []
  /// `[T]`: the selection score of the last chosen expert minus that of the best expert not chosen; +∞ if all
  /// experts are chosen. If a margin is as small as rounding errors, another machine may choose other experts.
  public package(set) var margins: [Float] = []
  /// `[T]`: ln Σ exp(logit).
  public package(set) var logSumExp: [Float] = []
  /// `[E]`: the number of choices of each expert, before dropping.
  public package(set) var counts: [Int64] = []
  /// `[E]`: the number of first choices of each expert, before dropping.
  public package(set) var firstChoiceCounts: [Int64] = []
  /// `[E]`: the number of dropped choices of each expert.
  public package(set) var droppedCounts: [Int64] = []
  /// `[E]`: Σ over tokens of each expert's probability, in units of 2⁻³⁰. The sums are integers, so they have the
  /// same bits in any order of the tokens. The term of each token is exact to 2⁻³¹.
  public package(set) var probabilitySums: [Int64] = []
  /// The number of tokens that took part: T minus the number of masked tokens.
  public package(set) var routedTokenCount = 0
  /// The capacity of one expert in one scope; nil if the policy drops no choices.
  public package(set) var capacity: Int?
  /// The choices that ``loadBalanceLoss`` counts.
  public package(set) var loadBalance = RoutingPolicy.LoadBalance.allChoices

  /// Makes an empty record to pass to a layer.
  public init() {}

  /// Returns the record of this part of a batch and of the part that follows it: appends the lists and adds the sums.
  ///
  /// - Precondition: both records come from the same layer.
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

  /// `[E]`: the number of choices of each expert that are computed.
  public var keptCounts: [Int64] { zip(counts, droppedCounts).map { $0 - $1 } }

  /// The number of dropped choices of all experts together.
  public var droppedCount: Int { Int(droppedCounts.reduce(0, +)) }

  /// Returns P, the mean probability of one expert over the routed tokens.
  public func meanProbability(_ expert: Int) -> Double {
    routedTokenCount == 0 ? 0 : Double(probabilitySums[expert]) * 0x1p-30 / Double(routedTokenCount)
  }

  /// E·Σ f·P over the batch, with f the share of choices that ``loadBalance`` counts: 1 if the load is balanced and f is a
  /// share of choices, E if one expert gets all of them. The caller multiplies it by its coefficient (α = 0.01 in Switch
  /// Transformer §2.2). Padding is left out.
  public var loadBalanceLoss: Float {
    guard routedTokenCount > 0, loadBalance.choices != .none else { return 0 }
    let assigned: [Int64]
    var divisor = Double(routedTokenCount)
    switch loadBalance.choices {
    case .none, .first: assigned = firstChoiceCounts
    case .all, .best, .every, .everyBest: assigned = counts
    case .kept:
      assigned = keptCounts
      divisor = Double(max(assigned.reduce(0, +), 1))
    }
    let isMean = loadBalance.choices == .all || loadBalance.choices == .best
    let total = isMean ? divisor * Double(expertsPerToken) : divisor
    var sum = 0.0
    for expert in 0..<expertCount {
      sum += Double(assigned[expert]) / total * (Double(probabilitySums[expert]) * 0x1p-30 / divisor)
    }
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
