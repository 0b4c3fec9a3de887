/// An error that names the value from which no plan can be made, and what was expected.
///
/// The description is one plain sentence without a full stop.
public struct PlanError: Error, Sendable, Equatable, CustomStringConvertible {
  /// The sentence.
  public let description: String

  /// Makes an error from a sentence without a full stop.
  public init(_ description: String) { self.description = description }
}

/// Throws the complaint as a ``PlanError`` unless the condition holds.
func require(_ condition: Bool, _ complaint: @autoclosure () -> String) throws(PlanError) {
  if !condition { throw PlanError(complaint()) }
}
