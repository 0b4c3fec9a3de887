internal import MoE
internal import MoECore

/// The scopes of a batch: sets of tokens that compete for the rows of an expert, and the rows that each set may take.
///
/// A scope is the batch, a sequence, or the tokens of one rank.
struct CapacityScopes {
  /// The distribution of the tokens over the ranks.
  let batch: Batch
  /// The number of consecutive tokens in a scope; nil if each rank's tokens are a scope.
  let size: Int?
  /// The capacity of all scopes, one number, or of each rank's scope, `[R]`; nil if nothing is dropped.
  private let capacities: [Int]?

  /// - Parameters:
  ///   - configuration: the layer's configuration, which contains the capacity rule.
  ///   - batch: the distribution of the tokens over the ranks.
  ///   - extent: whether a capacity of the batch counts the tokens of the batch or those of each rank.
  init(_ configuration: MoEConfiguration, _ batch: Batch, extent: ExpertParallelLayer.Extent) {
    func inForce(_ tokenCount: Int) -> CapacityInForce {
      CapacityInForce(
        configuration.routing, expertCount: configuration.expertCount,
        expertsPerToken: configuration.expertsPerToken, tokenCount: tokenCount,
        sequenceLength: batch.sequenceLength)
    }
    self.batch = batch
    let whole = inForce(batch.tokenCount)
    guard let capacity = whole.capacity else {
      size = max(batch.tokenCount, 1)
      capacities = nil
      return
    }
    if extent == .rank, configuration.routing.capacity?.scope == .batch {
      size = nil
      capacities = batch.tokenCounts.map { inForce($0).capacity! }
    } else {
      size = max(whole.scope, 1)
      capacities = [capacity]
    }
  }

  /// Whether there is a capacity at all.
  var drops: Bool { capacities != nil }

  /// The number of scopes.
  var count: Int { size.map { (batch.tokenCount + $0 - 1) / $0 } ?? batch.tokenCounts.count }

  /// Returns the capacity per expert in a scope; `Int.max` if nothing is dropped.
  func capacity(_ scope: Int) -> Int { capacities.map { $0[size == nil ? scope : 0] } ?? .max }

  /// Returns the capacity per expert in the scopes of a rank's tokens; nil if nothing is dropped.
  func capacity(ofRank rank: Int) -> Int? { capacities.map { $0[size == nil ? rank : 0] } }

  /// Returns the tokens of a scope.
  func tokens(ofScope scope: Int) -> Range<Int> {
    guard let size else { return batch.tokens(ofRank: scope) }
    return scope * size..<min((scope + 1) * size, batch.tokenCount)
  }

  /// Returns the scopes of a rank's tokens.
  func scopes(ofRank rank: Int) -> Range<Int> {
    guard let size else { return rank..<rank + 1 }
    let tokens = batch.tokens(ofRank: rank)
    let first = tokens.lowerBound / size
    return first..<(tokens.isEmpty ? first : (tokens.upperBound - 1) / size + 1)
  }
}
