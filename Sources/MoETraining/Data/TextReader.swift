internal import Foundation

/// Reads files and keeps those that are text, each once.
struct TextReader {
  /// A file that was read.
  struct Read {
    var label: String
    var path: String
    var bytes: [UInt8]
  }

  private(set) var files: [Read] = []
  private(set) var skipped: [TextCorpus.Skipped] = []
  /// The folder of the run, which is not read as text.
  private let leftOut: FilePath.Identity?
  private var paths: [FilePath.Identity: String] = [:]
  private var hashes: [UInt64: [Int]] = [:]
  /// Files that were left out because they, or their bytes, had been read before.
  private var duplicateCount = 0

  init(leavingOut leftOut: FilePath.Identity?) { self.leftOut = leftOut }

  /// Reads a file, or all files of a folder.
  ///
  /// - Throws: ``TrainingError/text(path:_:)`` for a file named by itself that is not text, and for a folder without
  ///   a text.
  mutating func read(_ source: TextSource) throws(TrainingError) {
    if !source.isFolder {
      if let complaint = read(source.path, source.label) {
        throw .text(path: source.path.text, complaint)
      }
      return
    }
    let (seenBefore, skippedBefore) = (files.count + duplicateCount, skipped.count)
    let folder = try TextFolder(source.path, leavingOut: leftOut)
    skipped += folder.skipped.map { .init(path: $0.path.text, reason: $0.reason) }
    for path in folder.files {
      if let reason = read(path, source.label) { skip(path, reason) }
    }
    if files.count + duplicateCount == seenBefore {
      let first = skipped[skippedBefore...].first.map { ": \($0.path) is left out, \($0.reason)" } ?? ""
      throw .text(path: source.path.text, "there is no text in the folder\(first)")
    }
  }

  /// Reads a file; returns the reason where it is left out. A file that is named again is listed in ``skipped``,
  /// which is no error.
  private mutating func read(_ path: FilePath, _ label: String) -> String? {
    guard let identity = path.target()?.identity else {
      return "the file cannot be read: \(systemReason())"
    }
    if let first = paths[identity] {
      skipDuplicate(path, "the same file as \(first)")
      return nil
    }
    guard let bytes = path.contents() else { return "the file cannot be read: \(systemReason())" }
    if let complaint = complaint(about: bytes) { return complaint }
    let hash = contentHash(bytes[...])
    if let same = hashes[hash]?.first(where: { files[$0].bytes == bytes }) {
      skipDuplicate(path, "the same bytes as \(files[same].path)")
      return nil
    }
    paths[identity] = path.text
    hashes[hash, default: []].append(files.count)
    files.append(Read(label: label, path: path.text, bytes: bytes))
    return nil
  }

  private mutating func skip(_ path: FilePath, _ reason: String) {
    skipped.append(.init(path: path.text, reason: reason))
  }

  private mutating func skipDuplicate(_ path: FilePath, _ reason: String) {
    duplicateCount += 1
    skip(path, reason)
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
