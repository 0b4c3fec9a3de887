/// The errors of a layer, mostly about data or a configuration that the caller supplied.
///
/// Every message names the wrong value and what was expected.
public enum MoEError: Error, Sendable, Equatable, CustomStringConvertible {
  /// A configuration that no layer can honour, such as more experts per token than experts.
  case invalidConfiguration(String)
  /// A value whose shape differs from the one that the configuration requires.
  case shapeMismatch(what: String, expected: [Int], actual: [Int])
  /// A NaN or an infinity in a value from which experts are chosen; `token` is the row in the flattened batch.
  case notFinite(what: String, token: Int)
  /// A training step that produced a number that is not finite.
  case diverged(String)
  /// An instruction set or option that this machine or build does not have.
  case unsupported(String)
  /// Memory that could not be allocated.
  case outOfMemory(bytes: Int)

  /// The message: one plain sentence without a full stop.
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
