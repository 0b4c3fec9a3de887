/// What a plan cannot be made of: the value, and what would do.
///
/// The description is one plain sentence without a full stop.
public struct PlanError: Error, Sendable, Equatable, CustomStringConvertible {
  /// The sentence.
  public let description: String

  /// Makes an error of a sentence without a full stop.
  public init(_ description: String) { self.description = description }
}

/// Throws what is wrong with a value unless a condition holds.
func require(_ condition: Bool, _ complaint: @autoclosure () -> String) throws(PlanError) {
  if !condition { throw PlanError(complaint()) }
}
