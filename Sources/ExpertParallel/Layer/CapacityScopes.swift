internal import MoE
internal import MoECore

/// The tokens that compete for the rows of an expert, and how many rows there are for them.
struct CapacityScopes {
  /// `[R + 1]`: the first token of each rank in the batch, and T.
  let firstTokens: [Int]
  /// The consecutive tokens of a scope; nil where each rank's tokens are one.
  let size: Int?
  /// That of all scopes, or of each rank's; nil where nothing is dropped.
  private let capacities: [Int]?

  /// - Parameters:
  ///   - sequenceLength: for a capacity per sequence.
  ///   - extent: whose tokens a capacity of the batch is of.
  init(
    _ configuration: MoEConfiguration, firstTokens: [Int], sequenceLength: Int,
    extent: ExpertParallelLayer.Extent
  ) {
    func inForce(_ tokenCount: Int) -> CapacityInForce {
      CapacityInForce(
        configuration.routing, expertCount: configuration.expertCount,
        expertsPerToken: configuration.expertsPerToken, tokenCount: tokenCount, sequenceLength: sequenceLength
      )
    }
    self.firstTokens = firstTokens
    let whole = inForce(firstTokens.last!)
    guard let capacity = whole.capacity else {
      size = max(firstTokens.last!, 1)
      capacities = nil
      return
    }
    if extent == .rank, configuration.routing.capacity?.scope == .batch {
      size = nil
      capacities = zip(firstTokens, firstTokens.dropFirst()).map { inForce($1 - $0).capacity! }
    } else {
      size = max(whole.scope, 1)
      capacities = [capacity]
    }
  }

  /// Whether there is a capacity at all.
  var drops: Bool { capacities != nil }

  var count: Int { size.map { (firstTokens.last! + $0 - 1) / $0 } ?? firstTokens.count - 1 }

  /// The rows of an expert in a scope; any number where nothing is dropped.
  func capacity(_ scope: Int) -> Int { capacities.map { $0[size == nil ? scope : 0] } ?? .max }

  /// The scopes that a rank's tokens are of.
  func scopes(ofRank rank: Int) -> Range<Int> {
    guard let size else { return rank..<rank + 1 }
    let tokens = firstTokens[rank]..<firstTokens[rank + 1]
    let first = tokens.lowerBound / size
    return first..<(tokens.isEmpty ? first : (tokens.upperBound - 1) / size + 1)
  }
}
