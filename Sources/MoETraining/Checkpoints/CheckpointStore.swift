internal import Foundation
package import MoECheckpoints

/// A checkpoint that was found.
package struct FoundCheckpoint {
  /// Its matrices.
  package var content: any CheckpointContent
  /// The step of the run.
  package var step: Int
  /// The reason why the checkpoint is not the newest, or why damage to it cannot be noticed; nil if neither is the
  /// case.
  package var note: String?
  /// The names of newer checkpoints, which are damaged.
  package var damaged: Set<String> = []
}

/// The checkpoints in a folder. The store lists them, puts new ones in place and removes old ones.
package struct CheckpointStore: Sendable {
  /// The folder.
  let path: String
  /// Whether a missing checkpoint is an error, because steps were recorded.
  let isExpected: Bool

  /// - Parameters:
  ///   - path: the folder that holds the checkpoints.
  ///   - isExpected: whether a missing checkpoint is an error.
  package init(_ path: String, isExpected: Bool) {
    self.path = path
    self.isExpected = isExpected
  }

  /// Puts a checkpoint in place, keeps the one before it and removes older ones. A collective.
  ///
  /// One rank writes `checkpoint.safetensors`, several ranks write a folder `checkpoint-<step>`. The new checkpoint
  /// is complete before it gets its name, and the one before keeps a name. So one complete checkpoint is left
  /// whenever the processes are killed.
  ///
  /// - Parameter damaged: the names that ``find(over:)`` skipped; none of them counts as the one before.
  /// - Throws: the errors of ``TrainingCheckpoint`` and ``ShardedCheckpoint``, equal on all ranks. No existing
  ///   checkpoint is changed then.
  package func save(
    _ checkpoint: TrainingCheckpoint, step: Int, metadata: NamedValues<String>, over ranks: CheckpointRanks,
    damaged: Set<String> = []
  ) throws {
    if ranks.size == 1 {
      try checkpoint.write(to: path(Self.nextFile), metadata: metadata)
      try putFileInPlace(damaged: damaged)
      return prune(keeping: Self.newestFile, step: step, damaged: damaged)
    }
    try ShardedCheckpoint.write(
      checkpoint.entries, to: path(Self.nextFolder), step: step, metadata: metadata, over: ranks)
    try ranks.agree(step: "checkpoint of step \(step)") {
      if ranks.rank > 0 { return }
      // Damaged checkpoints go first: the new checkpoint may need their names.
      for name in damaged { remove(name) }
      try putFolderInPlace(step: step)
      prune(keeping: Self.folderName(step: step), step: step, damaged: [])
    }
  }

  private func putFileInPlace(damaged: Set<String>) throws(CheckpointError) {
    // The newest file becomes the previous one only if it is undamaged: the previous one may be the last undamaged
    // one.
    if !damaged.contains(Self.newestFile), openedStep(of: Self.newestFile) != nil {
      let second = "\(Self.previousFile).tmp"
      _ = unsafe unlink(path(second))
      // Without hard links there is a moment in which only the previous name exists.
      if unsafe link(path(Self.newestFile), path(second)) == 0 {
        try rename(second, to: Self.previousFile)
      } else {
        try rename(Self.newestFile, to: Self.previousFile)
      }
    }
    try rename(Self.nextFile, to: Self.newestFile)
  }

  private func putFolderInPlace(step: Int) throws(CheckpointError) {
    let name = Self.folderName(step: step)
    if FileManager.default.fileExists(atPath: path(name)) {
      // A run that resumed from an older checkpoint reaches this step again.
      remove(name + Self.replaced)
      try rename(name, to: name + Self.replaced)
    }
    try rename(Self.nextFolder, to: name)
    AtomicFile.flush(folder: path)
  }

  private func rename(_ from: String, to name: String) throws(CheckpointError) {
    if unsafe Foundation.rename(path(from), path(name)) != 0 {
      throw CheckpointError(path(name), "cannot be put in place: \(unsafe String(cString: strerror(errno)))")
    }
  }

  /// Removes all checkpoints except `newest`, which was just put in place, and the newest one before it that can be
  /// opened.
  private func prune(keeping newest: String, step: Int, damaged: Set<String>) {
    let others = names().filter { $0 != newest }
    let before = others.first { !damaged.contains($0) && (openedStep(of: $0) ?? .max) <= step }
    for name in others where name != before { remove(name) }
  }

  /// Removes a file or folder. It is renamed first, so that no half of it is ever taken for a checkpoint.
  private func remove(_ name: String) {
    if unsafe Foundation.rename(path(name), path("\(name).tmp")) == 0 {
      try? FileManager.default.removeItem(atPath: path("\(name).tmp"))
    }
  }

  /// Returns the newest undamaged checkpoint; nil if there are no checkpoints and none is expected. A collective.
  ///
  /// - Throws: `CheckpointError`, equal on all ranks, if checkpoints exist and all are damaged.
  package func find(over ranks: CheckpointRanks = CheckpointRanks(nil)) throws -> FoundCheckpoint? {
    let own = ranks.rank == 0 ? names() : []
    var newestError: CheckpointError?
    var damaged: Set<String> = []
    for name in try ranks.gather(own, step: "checkpoints of \(path)")[0] {
      do {
        var found = try open(name, over: ranks)
        found.note =
          newestError.map {
            "\($0); the checkpoint before it, \(path(name)) of step \(found.step), takes its place"
          } ?? found.note
        found.damaged = damaged
        return found
      } catch let error as CheckpointError {
        if newestError == nil { newestError = error }
        damaged.insert(name)
      }
    }
    if let newestError { throw newestError }
    return nil
  }

  /// Returns the step of the newest checkpoint that can be opened. It does not read the whole checkpoint.
  func newestStep(besides damaged: Set<String>) -> Int? {
    for name in names() where !damaged.contains(name) {
      if let step = openedStep(of: name) { return step }
    }
    return nil
  }

  private func open(_ name: String, over ranks: CheckpointRanks) throws -> FoundCheckpoint {
    if let step = Self.step(ofFolder: name) {
      return FoundCheckpoint(
        content: try ShardedCheckpoint(path(name), step: step, over: ranks), step: step)
    }
    let (file, step, note) = try ranks.agree(step: "checkpoint \(path(name))") {
      let (file, step) = try openFile(name)
      // All ranks see the same file; one of them reads all of it.
      if try ranks.rank > 0 || CheckpointSeal.verify(file) { return (file, step, String?.none) }
      return (
        file, step, "\(file.path): an earlier version wrote it without a hash, so damage is not noticed"
      )
    }
    return FoundCheckpoint(content: file, step: step, note: note)
  }

  /// Removes checkpoints that a killed process left half written.
  package func removeLeftovers() {
    for name in fileNames(in: path)
    where AtomicFile.isTemporary(name) || name.hasPrefix("checkpoint") && name.hasSuffix(".tmp")
      || name == Self.nextFile || name == Self.nextFolder
    {
      try? FileManager.default.removeItem(atPath: path(name))
    }
  }
}
