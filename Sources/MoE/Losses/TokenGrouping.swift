/// The groups of tokens that a router loss averages over.
public enum TokenGrouping: Sendable, Hashable {
  /// All tokens in one group.
  case batch
  /// One group per sequence of `length` consecutive tokens; the last sequence may be shorter.
  case sequence(length: Int)
  /// One group per position in sequences of `length` tokens.
  case position(length: Int)

  /// Returns G, the number of groups of T tokens.
  ///
  /// - Precondition: a sequence has at least one token.
  public func groupCount(tokenCount: Int) -> Int {
    switch self {
    case .batch: 1
    case .sequence(let length): tokenCount / length + (tokenCount % length == 0 ? 0 : 1)
    case .position(let length): length
    }
  }

  /// The number of consecutive tokens in a group: token t belongs to group (t / runLength) mod G.
  var runLength: Int {
    if case .sequence(let length) = self { length } else { 1 }
  }
}
