/// The seconds of each stage, in the order in which stages were first added.
public struct StageTimes: Sendable, Equatable, Codable {
  /// One stage.
  public struct Stage: Sendable, Equatable, Codable {
    /// The name of the stage.
    public var name: String
    /// Seconds on the slowest rank.
    public var seconds: Double
  }

  /// The stages in order.
  public private(set) var stages: [Stage] = []

  /// The seconds of all stages.
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

/// The expected bytes of a step over all ranks.
public struct TrafficSummary: Sendable, Equatable, Codable {
  /// A kind of bytes.
  package enum Kind: String, Sendable, Codable, CaseIterable {
    /// Tokens to their experts, and gradients of the output the same way.
    case tokens
    /// Rows back from their experts, and gradients of rows.
    case rows
    /// Metadata: the row of each choice, and the weight of each row.
    case announcements
    /// Metadata: how many rows go to which rank.
    case counts
    /// Gradients of parameters that several ranks hold.
    case gradients
  }

  /// The bytes of one kind.
  package struct Part: Sendable, Equatable, Codable {
    package var kind: Kind
    /// Bytes between ranks of one host.
    package var inside: Double
    /// Bytes between hosts.
    package var between: Double
  }

  /// One part for each kind.
  package private(set) var parts = Kind.allCases.map { Part(kind: $0, inside: 0, between: 0) }
  /// The largest number of bytes that any rank sends to other ranks or receives from them.
  public private(set) var busiestRank = 0.0

  /// Bytes between ranks of one host.
  public var inside: Double { parts.reduce(0) { $0 + $1.inside } }
  /// Bytes between hosts.
  public var between: Double { parts.reduce(0) { $0 + $1.between } }

  /// The bytes of a kind.
  package subscript(kind: Kind) -> Part { parts.first { $0.kind == kind }! }

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
