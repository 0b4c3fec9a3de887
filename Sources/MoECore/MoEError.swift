/// What can go wrong with data or a configuration that a caller supplied.
///
/// Every message names the offending value and what was expected.
public enum MoEError: Error, Sendable, Equatable, CustomStringConvertible {
  /// A configuration that no layer can honour, such as more experts per token than experts.
  case invalidConfiguration(String)
  /// A value whose shape differs from what the configuration asks for.
  case shapeMismatch(what: String, expected: [Int], actual: [Int])
  /// A NaN or infinity where a route has to be chosen; `token` is the row in the flattened batch.
  case notFinite(what: String, token: Int)
  /// A training step whose numbers left the finite ones.
  case diverged(String)
  /// An instruction set or option that this machine or build does not have.
  case unsupported(String)
  /// Memory that could not be had.
  case outOfMemory(bytes: Int)

  /// One plain sentence without a full stop.
  public var description: String {
    switch self {
    case .invalidConfiguration(let message): message
    case .shapeMismatch(let what, let expected, let actual):
      "\(what) has shape \(actual), expected \(expected)"
    case .notFinite(let what, let token):
      "\(what) of token \(token) is NaN or infinite, so no expert can be chosen for it"
    case .diverged(let message): message
    case .unsupported(let message): message
    case .outOfMemory(let bytes): "out of memory: \(bytes) bytes could not be allocated"
    }
  }
}
