/// Which ranks hold which experts.
///
/// With at most as many ranks as experts each rank holds a contiguous part of them, ⌊E/R⌋ or ⌈E/R⌉. With more ranks
/// than experts each rank holds one, and the ranks of an expert, its replicas, split its rows.
public struct ExpertPlacement: Sendable, Equatable {
  /// E.
  public let expertCount: Int
  /// R.
  public let rankCount: Int
  /// `[R]`: the experts of each rank, ascending.
  public let experts: [[Int]]
  /// `[E]`: the ranks of each expert, ascending.
  public let replicas: [[Int]]

  /// Experts in order over ranks in order.
  ///
  /// - Precondition: both numbers are at least 1.
  public init(expertCount: Int, rankCount: Int) {
    precondition(expertCount > 0 && rankCount > 0, "\(expertCount) experts on \(rankCount) ranks")
    self.expertCount = expertCount
    self.rankCount = rankCount
    experts = (0..<rankCount).map { rank in
      let first = rank * expertCount / rankCount
      return Array(first..<max((rank + 1) * expertCount / rankCount, first + 1))
    }
    var replicas: [[Int]] = Array(repeating: [], count: expertCount)
    for (rank, held) in experts.enumerated() { for expert in held { replicas[expert].append(rank) } }
    self.replicas = replicas
  }

  /// Which of an expert's rows, in the order of the whole batch, one of its replicas computes.
  func share(_ replica: Int, of expert: Int, rowCount: Int) -> Range<Int> {
    let count = replicas[expert].count
    return replica * rowCount / count..<(replica + 1) * rowCount / count
  }
}
