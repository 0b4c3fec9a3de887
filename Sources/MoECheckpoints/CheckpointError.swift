/// An error about a checkpoint on disk.
///
/// The description is one plain sentence without a full stop. It begins with the file or folder, and names the tensor
/// or key, the value found and the value expected.
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

/// Returns a name from a file in a form that can be printed: in quotes, with control characters escaped, and cut after
/// 200 characters.
package func quoted(_ name: String) -> String {
  let limit = 200
  var text = ""
  for scalar in name.unicodeScalars.prefix(limit) {
    text += scalar.properties.generalCategory == .control ? scalar.escaped(asASCII: true) : String(scalar)
  }
  return "“\(text)\(name.unicodeScalars.count > limit ? "…" : "")”"
}
