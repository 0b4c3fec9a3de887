internal import Foundation
internal import MoERun

/// `metrics.jsonl`: a line a step, at the disk's door before the next step begins.
final class MetricsFile {
  private let handle: FileHandle
  private let path: String

  /// Opens the file to go on after the line of `step`, and drops what follows it.
  ///
  /// - Throws: ``TrainingError/run(path:_:)`` where it cannot be written, or lacks lines up to `step`.
  init(path: String, after step: Int) throws(TrainingError) {
    if !FileManager.default.fileExists(atPath: path) {
      _ = FileManager.default.createFile(atPath: path, contents: nil)
    }
    guard let handle = FileHandle(forUpdatingAtPath: path) else {
      throw .run(path: path, "the file cannot be written")
    }
    self.path = path
    self.handle = handle
    do {
      let bytes = try handle.readToEnd() ?? Data()
      var (end, lines) = (0, 0)
      while lines < step, let newline = bytes[end...].firstIndex(of: UInt8(ascii: "\n")) {
        end = newline + 1
        lines += 1
      }
      guard lines == step else {
        throw TrainingError.run(
          path: path, "the file has \(lines) lines, expected those of the checkpoint's \(step) steps")
      }
      try handle.truncate(atOffset: UInt64(end))
    } catch let error as TrainingError {
      throw error
    } catch {
      throw .run(path: path, "the file cannot be written: \(error.localizedDescription)")
    }
  }

  /// Writes a line in one call, so that a kill leaves it whole or away.
  func append(_ metrics: StepRecord) throws(TrainingError) {
    do {
      try handle.write(contentsOf: Data((RunJSON.text(metrics) + "\n").utf8))
    } catch {
      throw .run(path: path, "the file cannot be written: \(error.localizedDescription)")
    }
  }

  deinit { try? handle.close() }
}
