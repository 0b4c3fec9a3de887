/// The cost of a step with one split.
public struct Prediction: Sendable, Equatable, Codable {
  /// The division of the work over ranks.
  public var split: Split
  /// The bytes of the rank that needs most memory.
  public var memory: MemoryEstimate
  /// The bytes that a rank may use.
  public var memoryPerRank: Double
  /// The bytes that travel in a step.
  public var traffic: TrafficSummary
  /// The seconds of each stage on the slowest rank.
  public var stages: StageTimes
  /// The share of choices that a capacity drops.
  public var dropRate: Double
  /// The rows of the rank with most rows, divided by the mean; the largest of all layers.
  public var imbalance: Double
  /// In the passes over a layer, the share of the shorter of computation and exchange that the longer one hides; nil
  /// if nothing travels between hosts.
  public var overlapEfficiency: Double?
  /// The route of rows between hosts.
  public var route: Route
  /// The first layer's passes on the rank that computes longest.
  package var timeline: Timeline

  /// The first layer's passes on one rank.
  package struct Timeline: Sendable, Equatable, Codable {
    /// The forward pass; time 0 is when the first token leaves.
    package var forward: [TimelineSpan]
    /// The backward pass; time 0 is when the first gradient leaves.
    package var backward: [TimelineSpan]
  }

  /// The seconds of a step.
  public var seconds: Double { stages.total }
  /// Whether the rank that needs most memory has enough.
  public var fits: Bool { memory.total <= memoryPerRank }
}
