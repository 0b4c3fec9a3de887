import Foundation
import MoECheckpoints
import MoECore
import Testing

/// The folder of checkpoints that transformers wrote; see `make_fixtures.py` there.
let fixtures = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent().appending(
  path: "Fixtures")

/// The names of the checkpoints.
let fixtureNames = try! FileManager.default.contentsOfDirectory(atPath: fixtures.path)
  .filter { FileManager.default.fileExists(atPath: fixtures.appending(path: "\($0)/config.json").path) }
  .sorted()

/// The files of a fixture, to be damaged.
func fixtureFiles(_ name: String) throws -> [String: [UInt8]] {
  let folder = fixtures.appending(path: name)
  var files: [String: [UInt8]] = [:]
  for file in try FileManager.default.contentsOfDirectory(atPath: folder.path) {
    files[file] = Array(try Data(contentsOf: folder.appending(path: file)))
  }
  return files
}

/// A safetensors file with this header and this many bytes of data.
func safetensors(_ header: String, data: Int = 0) -> [UInt8] {
  let text = Array(header.utf8)
  return (0..<8).map { UInt8(truncatingIfNeeded: text.count >> ($0 * 8)) } + text
    + (0..<data).map { UInt8(truncatingIfNeeded: $0) }
}

/// Calls `body` with a new folder, and removes it.
func withTemporaryFolder(_ body: (URL) throws -> Void) throws {
  let folder = FileManager.default.temporaryDirectory.appending(path: "moe-\(UUID())")
  try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
  defer { try? FileManager.default.removeItem(at: folder) }
  try body(folder)
}

/// Expects `body` to throw a `CheckpointError` whose sentence contains `part`.
func expectComplaint<Result>(
  _ part: String, _ comment: Comment? = nil, sourceLocation: SourceLocation = #_sourceLocation,
  _ body: () throws -> Result
) {
  do {
    _ = try body()
    Issue.record("accepted, expected “…\(part)…” \(comment?.rawValue ?? "")", sourceLocation: sourceLocation)
  } catch {
    #expect(error is CheckpointError, comment, sourceLocation: sourceLocation)
    #expect("\(error)".contains(part), comment, sourceLocation: sourceLocation)
  }
}
