internal import Glibc
internal import MoERun

/// `metrics.jsonl`: one line per step, written before the next step begins.
final class MetricsFile {
  private let descriptor: Int32
  private let path: String

  /// Opens the file, to continue after the line of `step`. Removes the lines that follow it. The file need not exist
  /// yet.
  ///
  /// - Throws: ``TrainingError/run(path:_:)`` where the file cannot be written, or lacks lines up to `step`.
  init(path: String, after step: Int) throws(TrainingError) {
    self.path = path
    descriptor = unsafe open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0o666)
    if descriptor < 0 { throw Self.error(path) }
    let (lineCount, end) = try lines(atMost: step)
    guard lineCount == step else {
      throw .run(
        path: path, "the file has \(lineCount) lines, expected those of the checkpoint's \(step) steps")
    }
    if ftruncate(descriptor, end) != 0 { throw Self.error(path) }
  }

  /// Returns the number of lines, up to `limit`, and the bytes of these lines.
  private func lines(atMost limit: Int) throws(TrainingError) -> (count: Int, bytes: Int) {
    var block = [UInt8](repeating: 0, count: 1 << 16)
    var (lineCount, end, position) = (0, 0, 0)
    while lineCount < limit {
      let count = unsafe block.withUnsafeMutableBytes {
        unsafe pread(descriptor, $0.baseAddress!, $0.count, position)
      }
      if count < 0, errno == EINTR { continue }
      if count < 0 { throw Self.error(path) }
      if count == 0 { break }
      for (offset, byte) in block[..<count].enumerated() where byte == UInt8(ascii: "\n") && lineCount < limit
      {
        lineCount += 1
        end = position + offset + 1
      }
      position += count
    }
    return (lineCount, end)
  }

  /// Writes a line in one call, so that a killed process leaves a whole line or nothing of it.
  func append(_ metrics: StepRecord) throws(TrainingError) {
    let line = Array((RunJSON.text(metrics) + "\n").utf8)
    var written = 0
    while written < line.count {
      let count = unsafe line.withUnsafeBytes {
        unsafe write(descriptor, $0.baseAddress! + written, $0.count - written)
      }
      if count > 0 {
        written += count
      } else if count == 0 || errno != EINTR {
        throw Self.error(path)
      }
    }
  }

  private static func error(_ path: String) -> TrainingError {
    .run(path: path, "the file cannot be written: \(unsafe String(cString: strerror(errno)))")
  }

  deinit { if descriptor >= 0 { close(descriptor) } }
}
