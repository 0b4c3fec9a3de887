/// Seconds by stage, in the order in which stages were first added.
public struct StageTimes: Sendable, Equatable, Codable {
  /// A stage and its seconds.
  public struct Stage: Sendable, Equatable, Codable {
    /// What is done.
    public var name: String
    /// How long, on the slowest rank.
    public var seconds: Double
  }

  /// In order.
  public private(set) var stages: [Stage] = []

  /// The sum of all stages.
  public var total: Double { stages.reduce(0) { $0 + $1.seconds } }

  mutating func add(_ name: String, _ seconds: Double) {
    if let index = stages.firstIndex(where: { $0.name == name }) {
      stages[index].seconds += seconds
    } else if seconds > 0 {
      stages.append(Stage(name: name, seconds: seconds))
    }
  }

  mutating func add(_ other: StageTimes, times factor: Double = 1) {
    for stage in other.stages { add(stage.name, stage.seconds * factor) }
  }
}

/// Expected bytes of a step, over all ranks.
public struct TrafficSummary: Sendable, Equatable, Codable {
  /// What travels.
  public enum Kind: String, Sendable, Codable, CaseIterable {
    /// Tokens to their experts, and gradients of the output the same way.
    case tokens
    /// Rows back, and their gradients.
    case rows
    /// Which row a choice takes, and what a row is multiplied by.
    case announcements
    /// How much goes where.
    case counts
    /// Gradients of parameters that several ranks hold.
    case gradients
  }

  /// Bytes of one kind.
  public struct Part: Sendable, Equatable, Codable {
    /// What travels.
    public var kind: Kind
    /// Between ranks of one host, in all.
    public var inside: Double
    /// Between hosts, in all.
    public var between: Double
  }

  /// By kind.
  public private(set) var parts = Kind.allCases.map { Part(kind: $0, inside: 0, between: 0) }
  /// The most that any rank sends to or receives from other ranks.
  public private(set) var busiestRank = 0.0

  /// Between ranks of one host, in all.
  public var inside: Double { parts.reduce(0) { $0 + $1.inside } }
  /// Between hosts, in all.
  public var between: Double { parts.reduce(0) { $0 + $1.between } }

  /// The bytes of a kind.
  public subscript(kind: Kind) -> Part { parts.first { $0.kind == kind }! }

  mutating func add(_ traffic: Traffic, as kind: Kind) {
    let index = parts.firstIndex { $0.kind == kind }!
    parts[index].inside += traffic.insideBytes
    parts[index].between += traffic.betweenBytes
    var largest = 0.0
    for rank in traffic.own.indices {
      largest = max(
        largest, traffic.insideIn[rank] + traffic.betweenIn[rank],
        traffic.insideOut[rank] + traffic.betweenOut[rank])
    }
    busiestRank += largest
  }

  mutating func add(_ other: TrafficSummary, times factor: Double = 1) {
    for index in parts.indices {
      parts[index].inside += other.parts[index].inside * factor
      parts[index].between += other.parts[index].between * factor
    }
    busiestRank += other.busiestRank * factor
  }
}
