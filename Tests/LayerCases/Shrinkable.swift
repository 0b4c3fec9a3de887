/// A test case that can offer smaller ones.
public protocol Shrinkable: Sendable, Equatable {
  /// Cases in which one property is smaller or simpler; empty if the case cannot shrink further.
  var smaller: [Self] { get }
}

/// The error of a property that does not hold, with the reason.
public struct Counterexample: Error, CustomStringConvertible {
  /// The reason: the expected and the actual result.
  public let description: String

  /// Makes an error with a reason.
  public init(_ description: String) { self.description = description }
}

/// Throws a ``Counterexample`` unless `condition` holds.
///
/// Properties use it in place of `#expect`, which would record an issue for every case tried while shrinking.
public func ensure(_ condition: Bool, _ reason: @autoclosure () -> String) throws {
  if !condition { throw Counterexample(reason()) }
}
