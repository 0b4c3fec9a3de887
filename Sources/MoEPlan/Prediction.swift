/// What a step costs with one split.
public struct Prediction: Sendable, Equatable, Codable {
  /// How ranks divide the work.
  public var split: Split
  /// Bytes of the rank that needs most.
  public var memory: MemoryEstimate
  /// Bytes that a rank may use.
  public var memoryPerRank: Double
  /// Bytes that travel in a step.
  public var traffic: TrafficSummary
  /// Seconds by stage, on the slowest rank.
  public var stages: StageTimes
  /// The share of choices that a capacity drops.
  public var dropRate: Double
  /// Rows of the rank with most over the mean, in the layer where it is largest.
  public var imbalance: Double
  /// The share of the shorter of computation and exchange that the other hides, in the pipelines of a layer; nil where
  /// there is nothing between hosts to hide.
  public var overlapEfficiency: Double?
  /// How rows go between hosts.
  public var route: Route
  /// The first layer's passes on the rank that computes longest.
  public var timeline: Timeline

  /// The first layer's passes of one rank.
  public struct Timeline: Sendable, Equatable, Codable {
    /// From the first token that leaves.
    public var forward: [TimelineSpan]
    /// From the first gradient that leaves.
    public var backward: [TimelineSpan]
  }

  /// Seconds of a step.
  public var seconds: Double { stages.total }
  /// Whether the memory of the rank that needs most suffices.
  public var fits: Bool { memory.total <= memoryPerRank }
}
