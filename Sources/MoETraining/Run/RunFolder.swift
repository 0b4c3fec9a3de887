internal import Foundation
internal import MoE
internal import MoECheckpoints
public import MoERun

/// The folder of a run: the paths of its files, and how they are created, locked, read and written.
public struct RunFolder: Sendable {
  /// The path as it was given, without a slash at its end.
  public let path: String

  /// Names a folder, which may not exist yet.
  public init(_ path: String) {
    self.path = path.count > 1 && path.hasSuffix("/") ? String(path.dropLast()) : path
  }

  var descriptionPath: String { "\(path)/\(RunFiles.description)" }
  var metricsPath: String { "\(path)/\(RunFiles.metrics)" }
  var routingPath: String { "\(path)/\(RunFiles.routing)" }
  var samplePath: String { "\(path)/\(RunFiles.sample)" }

  /// The checkpoints of the run. A missing checkpoint is an error once a step was recorded.
  package var checkpoints: CheckpointStore {
    CheckpointStore(
      path, isExpected: !(FileManager.default.contents(atPath: metricsPath) ?? Data()).isEmpty)
  }

  /// Creates the folder for a new run.
  ///
  /// - Throws: ``TrainingError/run(path:_:)`` where the folder is not empty or cannot be created.
  public func create() throws(TrainingError) {
    let found = (try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []
    if found.contains(RunFiles.description) {
      throw .run(path: path, "the folder holds a run already; --resume continues it")
    }
    if !found.isEmpty { throw .run(path: path, "the folder exists and is not empty") }
    do throws(CheckpointError) {
      try Folder.create(path)
    } catch {
      throw .run(path: error.path, error.complaint)
    }
  }

  /// Locks the folder for this process until the process ends.
  ///
  /// - Throws: ``TrainingError/run(path:_:)`` where another process has locked it.
  public func lock() throws(TrainingError) {
    let descriptor = unsafe open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard descriptor >= 0 else { throw .run(path: path, "the folder cannot be opened") }
    guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
      close(descriptor)
      throw .run(path: path, "another process is training this run")
    }
  }

  /// Reads `run.json` and checks its numbers.
  ///
  /// - Throws: ``TrainingError/run(path:_:)`` where the file is missing, is not understood, or has a value out of
  ///   range.
  public func description() throws(TrainingError) -> TrainingDescription {
    guard let data = FileManager.default.contents(atPath: descriptionPath) else {
      throw .run(path: path, "there is no run.json, so this is not the folder of a run")
    }
    do throws(RunError) {
      let description = try RunJSON.decode(
        TrainingDescription.self, from: data, path: descriptionPath)
      do throws(MoEError) { try description.validate() } catch {
        throw RunError(descriptionPath, "\(error)")
      }
      return description
    } catch {
      throw .run(path: error.path, error.complaint)
    }
  }

  /// Writes `run.json`.
  public func write(_ description: TrainingDescription) throws(TrainingError) {
    try write(RunJSON.text(description, isPretty: true) + "\n", to: descriptionPath)
  }

  /// Writes a file so that it has all of the text, or keeps its old content if writing fails.
  func write(_ text: String, to path: String) throws(TrainingError) {
    do throws(CheckpointError) {
      try AtomicFile.write(Array(text.utf8), to: path)
    } catch {
      throw .run(path: path, error.complaint)
    }
  }
}
