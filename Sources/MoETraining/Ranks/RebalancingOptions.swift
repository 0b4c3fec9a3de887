/// When ranks place experts anew. The placement balances the rows that each expert had.
public struct RebalancingOptions: Sendable, Equatable {
  /// The number of steps from one placement to the next. The load of these steps counts.
  public var interval: Int
  /// The number of copies of experts that a layer may have beyond one of each. Each rank has memory for ⌈(E + copies)/R⌉ experts.
  public var copyCount: Int

  /// Collects both.
  public init(interval: Int, copyCount: Int = 0) { (self.interval, self.copyCount) = (interval, copyCount) }
}
