/// What is wrong with a checkpoint on disk.
///
/// The description is one plain sentence without a full stop. It begins with the file or folder and names the
/// tensor or key, what was found there, and what was expected.
public struct CheckpointError: Error, Sendable, Equatable, CustomStringConvertible {
  /// The file or folder.
  public let path: String
  /// The complaint, without the path.
  public let complaint: String

  /// Makes an error about the file or folder at `path`.
  public init(_ path: String, _ complaint: String) {
    self.path = path
    self.complaint = complaint
  }

  /// One plain sentence without a full stop.
  public var description: String { "\(path): \(complaint)" }
}

/// A name taken from a file, fit to be printed: quoted, control characters escaped, and cut where it is long.
package func quoted(_ name: String) -> String {
  let limit = 200
  var text = ""
  for scalar in name.unicodeScalars.prefix(limit) {
    text += scalar.properties.generalCategory == .control ? scalar.escaped(asASCII: true) : String(scalar)
  }
  return "“\(text)\(name.unicodeScalars.count > limit ? "…" : "")”"
}
