internal import Foundation

/// A file or folder as an argument names it: PATH or LABEL=PATH.
///
/// Both path and label may have equals signs. The argument is a path if a file or folder has that name. Otherwise it
/// is split at the first equals sign that is followed by the path of a file or folder.
struct TextSource {
  let path: FilePath
  let label: String
  let isFolder: Bool

  /// - Throws: ``TrainingError/text(path:_:)`` where the file or folder does not exist, or the label is empty.
  init(_ argument: String) throws(TrainingError) {
    guard let (given, path) = Self.parts(of: argument), let target = path.target() else {
      // For an error, the first equals sign is taken as the end of the label.
      let mark = argument.firstIndex(of: "=")
      let path = mark.map { String(argument[argument.index(after: $0)...]) } ?? argument
      throw .text(path: path, Self.complaint(about: path))
    }
    if given == "" { throw .text(path: argument, "the label before “=” is empty") }
    switch target.kind {
    case .file: isFolder = false
    case .folder: isFolder = true
    case .other(let kind):
      throw .text(
        path: path.text, "it is \(kind), expected a file or folder, which can be read again to resume the run"
      )
    }
    self.path = path
    label = given ?? (isFolder ? path.name : Self.stem(path.name))
  }

  private static func parts(of argument: String) -> (label: String?, path: FilePath)? {
    if let path = FilePath.find(argument) { return (nil, path) }
    for mark in argument.indices where argument[mark] == "=" {
      if let path = FilePath.find(String(argument[argument.index(after: mark)...])) {
        return (String(argument[..<mark]), path)
      }
    }
    return nil
  }

  private static func complaint(about path: String) -> String {
    if FilePath(path).isLink { return "the link leads to no file or folder" }
    if path.unicodeScalars.contains("\u{FFFD}") {
      return "there is no such file or folder, or its name is not UTF-8 and another is as like it"
    }
    return "there is no such file or folder"
  }

  /// A file's name without its extension.
  private static func stem(_ name: String) -> String {
    guard let dot = name.lastIndex(of: "."), dot > name.startIndex, name.index(after: dot) < name.endIndex
    else { return name }
    return String(name[..<dot])
  }
}

extension TextCorpus {
  /// Returns a file or folder as LABEL=PATH, with its path from the root, so that it can be found from any folder.
  ///
  /// - Parameter argument: PATH or LABEL=PATH, as for ``init(_:leavingOut:)``.
  /// - Throws: ``TrainingError/text(path:_:)`` where the file or folder does not exist.
  public static func absolute(_ argument: String) throws(TrainingError) -> String {
    let source = try TextSource(argument)
    return "\(source.label)=\(source.path.absolute().text)"
  }
}
