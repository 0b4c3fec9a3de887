internal import Foundation

/// The files of a folder of texts, recursively.
///
/// Links to files and folders are followed. A folder that is reached twice is read once, by its own path rather than
/// by a link. So links to a parent folder do not loop.
struct TextFolder {
  /// The files, in the order of their paths' bytes.
  private(set) var files: [FilePath] = []
  /// Entries that are not read, with the reason.
  private(set) var skipped: [(path: FilePath, reason: String)] = []
  private var visited: [FilePath.Identity: FilePath] = [:]
  /// Links to folders, followed once all folders without a link have been visited.
  private var links: [FilePath] = []
  private let leftOut: FilePath.Identity?

  /// - Parameters:
  ///   - path: the folder of texts.
  ///   - leftOut: a folder that is not read: the folder of the run itself.
  /// - Throws: ``TrainingError/text(path:_:)`` where the folder cannot be read.
  init(_ path: FilePath, leavingOut leftOut: FilePath.Identity?) throws(TrainingError) {
    self.leftOut = leftOut
    if let reason = visit(path) { throw .text(path: path.text, reason) }
    while !links.isEmpty {
      let link = links.removeFirst()
      if let reason = visit(link) { skipped.append((link, reason)) }
    }
    files.sort { $0.bytes.lexicographicallyPrecedes($1.bytes) }
    skipped.sort { $0.path.bytes.lexicographicallyPrecedes($1.path.bytes) }
  }

  /// Visits a folder; returns the reason where it is left out.
  private mutating func visit(_ folder: FilePath) -> String? {
    guard let identity = folder.target()?.identity else {
      return "the folder cannot be read: \(systemReason())"
    }
    if identity == leftOut { return "the folder of this run" }
    if let first = visited[identity] { return "the same folder as \(first.text)" }
    guard let names = folder.names() else { return "the folder cannot be read: \(systemReason())" }
    visited[identity] = folder
    // The files of a run are text, and change while it is trained.
    if names.contains(Array("run.json".utf8)), names.contains(Array("metrics.jsonl".utf8)) {
      return "the folder of a run"
    }
    for name in names {
      let path = folder.appending(name)
      if let reason = look(at: path, isHidden: name.first == UInt8(ascii: ".")) {
        skipped.append((path, reason))
      }
    }
    return nil
  }

  /// Adds a file, visits a folder or keeps a link for later; returns the reason where it is left out.
  private mutating func look(at path: FilePath, isHidden: Bool) -> String? {
    guard let target = path.target() else {
      return path.isLink
        ? "a link that leads to no file or folder" : "it cannot be examined: \(systemReason())"
    }
    switch target.kind {
    case .file where isHidden: return "a hidden file"
    case .folder where isHidden: return "a hidden folder"
    case .file: files.append(path)
    case .folder:
      if !path.isLink { return visit(path) }
      links.append(path)
    case .other(let kind): return kind
    }
    return nil
  }
}
