/// When ranks place experts anew. The placement balances the rows that each expert had.
public struct RebalancingOptions: Sendable, Equatable {
  /// The number of steps from one placement to the next. The placement uses the load of these steps.
  public var interval: Int
  /// The number of copies of experts that a layer may have in addition to the first copy of each. Each rank has
  /// memory for ⌈(E + copies)/R⌉ experts.
  public var copyCount: Int

  /// Collects both values.
  public init(interval: Int, copyCount: Int = 0) { (self.interval, self.copyCount) = (interval, copyCount) }
}
