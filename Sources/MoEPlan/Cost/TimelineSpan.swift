/// A span of time in which one rank's cores, or its host's link, do one thing in a pass over a layer.
package struct TimelineSpan: Sendable, Equatable, Codable {
  /// The part of the machine that works.
  package enum Lane: String, Sendable, Codable, CaseIterable {
    /// The rank's cores.
    case cores
    /// The link of its host.
    case link
  }

  /// The work.
  package enum Kind: String, Sendable, Codable, CaseIterable {
    /// Tokens travel to their experts.
    case out
    /// Experts compute.
    case compute
    /// Rows travel back to the ranks of their tokens.
    case back
    /// Gradients of the experts' weights are computed.
    case gradients
  }

  package var lane: Lane
  package var kind: Kind
  /// The index of the slice.
  package var slice: Int
  /// Seconds since the first exchange began.
  package var start: Double
  /// Seconds since the first exchange began.
  package var end: Double
}
