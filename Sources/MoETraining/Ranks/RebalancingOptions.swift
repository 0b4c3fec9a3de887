/// When ranks place experts anew, by how many rows each had.
public struct RebalancingOptions: Sendable, Equatable {
  /// After every so many steps, by the load of these steps.
  public var interval: Int
  /// The copies of experts that a layer may have beyond one of each. Each rank has memory for ⌈(E + copies)/R⌉ experts.
  public var copyCount: Int

  /// Collects both.
  public init(interval: Int, copyCount: Int = 0) { (self.interval, self.copyCount) = (interval, copyCount) }
}
