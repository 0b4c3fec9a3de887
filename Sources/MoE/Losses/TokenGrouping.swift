/// Which tokens a loss of the router averages over.
public enum TokenGrouping: Sendable, Hashable {
  /// All of them: one group.
  case batch
  /// Each sequence of `length` consecutive tokens; the last may be short.
  case sequence(length: Int)
  /// Each position in sequences of `length` tokens.
  case position(length: Int)

  /// G: the number of groups of T tokens.
  ///
  /// - Precondition: a sequence has at least one token.
  public func groupCount(tokenCount: Int) -> Int {
    switch self {
    case .batch: 1
    case .sequence(let length): tokenCount / length + (tokenCount % length == 0 ? 0 : 1)
    case .position(let length): length
    }
  }

  /// The consecutive tokens of a group: token t belongs to group (t / this) mod G.
  var runLength: Int {
    if case .sequence(let length) = self { length } else { 1 }
  }
}
