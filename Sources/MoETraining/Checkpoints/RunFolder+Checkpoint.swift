internal import Foundation
internal import MoECheckpoints

/// A checkpoint that was found, and what there is to say about it.
struct FoundCheckpoint {
  var file: SafetensorsFile
  var step: Int
  /// Why it is not the newest, where it is not.
  var note: String?
}

extension RunFolder {
  /// Puts a checkpoint in place and keeps the one before it.
  ///
  /// The new file is whole before the old one gets its second name, and has that name until the new one takes the
  /// first: whenever the process is killed, `checkpoint.safetensors` is whole.
  func save(_ checkpoint: TrainingCheckpoint, metadata: [String: String]) throws {
    try checkpoint.write(to: nextPath, metadata: metadata)
    if FileManager.default.fileExists(atPath: checkpointPath) {
      let second = "\(previousPath).tmp"
      _ = unsafe unlink(second)
      // A file system without hard links is left with a moment in which only the previous name exists.
      if unsafe link(checkpointPath, second) == 0 {
        try rename(second, to: previousPath)
      } else {
        try rename(checkpointPath, to: previousPath)
      }
    }
    try rename(nextPath, to: checkpointPath)
  }

  private func rename(_ from: String, to path: String) throws(TrainingError) {
    if unsafe Foundation.rename(from, path) != 0 {
      throw .run(path: path, "the file cannot be put in place: \(unsafe String(cString: strerror(errno)))")
    }
  }

  /// The newest checkpoint that is whole; nil where there is none and no step was recorded.
  ///
  /// - Throws: `CheckpointError` where there are checkpoints and none is whole.
  func findCheckpoint() throws -> FoundCheckpoint? {
    do throws(CheckpointError) {
      return try open(checkpointPath)
    } catch {
      if FileManager.default.fileExists(atPath: previousPath), var found = try? open(previousPath) {
        found.note =
          "\(error); the checkpoint before it, \(previousPath) of step \(found.step), takes its place"
        return found
      }
      let metrics = FileManager.default.contents(atPath: metricsPath) ?? Data()
      if FileManager.default.fileExists(atPath: checkpointPath) || !metrics.isEmpty { throw error }
      return nil
    }
  }

  private func open(_ path: String) throws(CheckpointError) -> FoundCheckpoint {
    let file = try SafetensorsFile(path: path)
    guard let step = file.metadata["step"].flatMap(Int.init), step >= 0 else {
      throw CheckpointError(path, "its metadata has no step, so it is no checkpoint of a run")
    }
    return FoundCheckpoint(file: file, step: step)
  }
}
