/// A stretch of one rank's work in a pass over a layer.
public struct TimelineSpan: Sendable, Equatable, Codable {
  /// Where.
  public enum Lane: String, Sendable, Codable, CaseIterable {
    /// The rank's cores.
    case cores
    /// The link of its host.
    case link
  }

  /// What.
  public enum Kind: String, Sendable, Codable, CaseIterable {
    /// Tokens to their experts.
    case out
    /// The experts.
    case compute
    /// Rows to the ranks of their tokens.
    case back
    /// Gradients of the experts' weights.
    case gradients
  }

  /// Where.
  public var lane: Lane
  /// What.
  public var kind: Kind
  /// The slice, from 0.
  public var slice: Int
  /// Seconds from the first exchange on.
  public var start: Double
  /// Seconds from the first exchange on.
  public var end: Double
}
