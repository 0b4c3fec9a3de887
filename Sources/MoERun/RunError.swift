/// An error about a file of a run's folder.
///
/// The description is one plain sentence without a full stop: the file, the line if the file has one record per line,
/// the found value and the expected value.
public struct RunError: Error, Sendable, Equatable, CustomStringConvertible {
  /// The file or folder.
  public let path: String
  /// The line, counted from 1, of a file with one record per line; nil for other files.
  public let line: Int?
  /// The complaint, without file and line.
  public let complaint: String

  /// Makes an error about the file at `path`.
  public init(_ path: String, line: Int? = nil, _ complaint: String) {
    self.path = path
    self.line = line
    self.complaint = complaint
  }

  /// One plain sentence without a full stop.
  public var description: String {
    line.map { "\(path) line \($0): \(complaint)" } ?? "\(path): \(complaint)"
  }
}
