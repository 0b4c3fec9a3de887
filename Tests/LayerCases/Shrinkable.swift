/// A test case that can offer smaller ones.
public protocol Shrinkable: Sendable, Equatable {
  /// Cases with one thing smaller or simpler; none where there is nothing left to take away.
  var smaller: [Self] { get }
}

/// A property that does not hold, and why.
public struct Counterexample: Error, CustomStringConvertible {
  /// What was expected and what was found.
  public let description: String

  /// Says why.
  public init(_ description: String) { self.description = description }
}

/// Throws a ``Counterexample`` unless `condition` holds.
///
/// Properties use it in place of `#expect`, which would record an issue for every case tried while shrinking.
public func ensure(_ condition: Bool, _ reason: @autoclosure () -> String) throws {
  if !condition { throw Counterexample(reason()) }
}
