internal import Foundation

/// A file or folder as it was named: PATH or LABEL=PATH.
struct TextSource {
  let path: String
  let label: String
  let isFolder: Bool

  init(_ argument: String) throws(TrainingError) {
    var (path, given) = (argument, String?.none)
    // A path may have an equals sign of its own.
    if !FileManager.default.fileExists(atPath: argument), let mark = argument.firstIndex(of: "=") {
      given = String(argument[..<mark])
      path = String(argument[argument.index(after: mark)...])
    }
    if given == "" { throw .text(path: argument, "the label before “=” is empty") }
    var isFolder: ObjCBool = false
    guard unsafe FileManager.default.fileExists(atPath: path, isDirectory: &isFolder) else {
      throw .text(path: path, "there is no such file or folder")
    }
    self.path = path
    self.isFolder = isFolder.boolValue
    let name = URL(filePath: path).standardizedFileURL
    label = given ?? (isFolder.boolValue ? name : name.deletingPathExtension()).lastPathComponent
  }

  /// The files of a folder, recursively, in the order of their paths' bytes; hidden ones are left out.
  func files() throws(TrainingError) -> [String] {
    guard let names = FileManager.default.subpaths(atPath: path) else {
      throw .text(path: path, "the folder cannot be read")
    }
    return names.filter { !$0.split(separator: "/").contains { $0.hasPrefix(".") } }
      .sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
      .map { path.hasSuffix("/") ? path + $0 : "\(path)/\($0)" }
      .filter {
        var isFolder: ObjCBool = false
        return unsafe FileManager.default.fileExists(atPath: $0, isDirectory: &isFolder)
          && !isFolder.boolValue
      }
  }
}

extension TextCorpus {
  /// A file or folder as it was named, with its path from the root, so that it can be found from any folder.
  ///
  /// - Throws: ``TrainingError/text(path:_:)`` where there is no such file or folder.
  public static func absolute(_ argument: String) throws(TrainingError) -> String {
    let source = try TextSource(argument)
    let path = URL(filePath: source.path).standardizedFileURL.path
    return "\(source.label)=\(path)"
  }
}

/// Reads files and keeps what is text, each once.
struct TextReader {
  struct Read {
    var label: String
    var path: String
    var bytes: [UInt8]
  }

  private(set) var files: [Read] = []
  private(set) var skipped: [TextCorpus.Skipped] = []
  private var resolved: [String: String] = [:]
  private var hashes: [UInt64: [Int]] = [:]

  mutating func read(_ source: TextSource) throws(TrainingError) {
    if !source.isFolder { return try read(source.path, source.label, isNamed: true) }
    for path in try source.files() { try read(path, source.label, isNamed: false) }
  }

  private mutating func read(_ path: String, _ label: String, isNamed: Bool) throws(TrainingError) {
    // The way without symbolic links, so that a link to a file already read need not be read.
    let real = URL(filePath: path).resolvingSymlinksInPath().path
    if let first = resolved[real] { return skip(path, "the same file as \(first)") }
    guard let data = FileManager.default.contents(atPath: path) else {
      throw .text(path: path, "the file cannot be read")
    }
    let bytes = [UInt8](data)
    if let complaint = complaint(about: bytes) {
      if isNamed { throw .text(path: path, complaint) }
      return skip(path, complaint)
    }
    let hash = contentHash(bytes[...])
    if let same = hashes[hash]?.first(where: { files[$0].bytes == bytes }) {
      return skip(path, "the same bytes as \(files[same].path)")
    }
    resolved[real] = path
    hashes[hash, default: []].append(files.count)
    files.append(Read(label: label, path: path, bytes: bytes))
  }

  private mutating func skip(_ path: String, _ reason: String) {
    skipped.append(.init(path: path, reason: reason))
  }

  private func complaint(about bytes: [UInt8]) -> String? {
    if bytes.isEmpty { return "the file is empty" }
    if let zero = bytes.firstIndex(of: 0) {
      return "the file is not text: byte \(zero) is zero"
    }
    do throws(UTF8.ValidationError) {
      _ = try UTF8Span(validating: bytes.span)
      return nil
    } catch {
      return "the file is not UTF-8: byte \(error.byteOffsets.lowerBound) begins no character"
    }
  }
}
