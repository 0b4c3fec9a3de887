internal import Foundation
package import MoECheckpoints
internal import MoECore

extension ShardedCheckpoint {
  /// Writes the matrices of all ranks into a folder, and removes the old content of the folder. A collective.
  ///
  /// All ranks write at once, one file each: the matrices that ``ShardPlan`` gives to the rank. Once all files are on
  /// the disk, rank 0 writes the manifest.
  ///
  /// - Parameters:
  ///   - entries: the matrices that this rank holds. Matrices of one name are equal on all ranks that hold them.
  ///   - path: the folder, one for all ranks, on a file system that all ranks reach.
  ///   - step: the step of the run.
  ///   - metadata: strings about the run, for the manifest.
  ///   - ranks: the ranks that write.
  /// - Throws: an error that is equal on all ranks: ``TrainingError/notFinite(what:)`` naming a matrix with a NaN or
  ///   infinity, before anything is written; `CheckpointError` where a file cannot be written.
  package static func write(
    _ entries: [CheckpointEntry], to path: String, step: Int, metadata: NamedValues<String>,
    over ranks: CheckpointRanks
  ) throws {
    let label = "checkpoint of step \(step)"
    let plan = try ShardPlan(held: ranks.gather(entries, step: label))
    var writer = SafetensorsWriter(metadata: [
      "format": "pt", "step": "\(step)", "rank": "\(ranks.rank)", "ranks": "\(ranks.size)",
    ])
    var broken: [String] = []
    try ranks.agree(step: label) {
      for entry in entries where broken.isEmpty {
        let matrix = entry.read()
        if !matrix.isFinite { broken = [entry.name] }
        if plan.writers[entry.name] == ranks.rank { try writer.add(entry.name, matrix) }
      }
    }
    if let name = try ranks.gather(broken, step: label).joined().first {
      throw TrainingError.notFinite(what: "a value of \(name)")
    }
    try ranks.agree(step: label) { if ranks.rank == 0 { try makeEmpty(path) } }
    let file = CheckpointManifest.fileName(rank: ranks.rank, of: ranks.size)
    let digest = try ranks.agree(step: label) { try writer.writeDigested(to: "\(path)/\(file)") }
    let sizes = try ranks.gather([digest.byteCount], step: label).joined()
    let hashes = try ranks.gather(digest.sha256, step: label)
    try ranks.agree(step: label) {
      if ranks.rank > 0 { return }
      let manifest = CheckpointManifest(
        step: step, metadata: metadata,
        files: zip(sizes, hashes).map { FileDigest(byteCount: $0, sha256: $1) },
        tensors: plan.shapes.reduce(into: [:]) { tensors, next in
          tensors[next.key] = .init(shape: next.value, file: plan.writers[next.key]!)
        })
      try AtomicFile.write(Array(manifest.json.utf8), to: "\(path)/\(CheckpointManifest.name)")
    }
  }

  private static func makeEmpty(_ path: String) throws(CheckpointError) {
    if FileManager.default.fileExists(atPath: path) {
      do {
        try FileManager.default.removeItem(atPath: path)
      } catch {
        throw CheckpointError(path, "the folder of an earlier checkpoint cannot be removed")
      }
    }
    try Folder.create(path)
  }
}

extension Matrix {
  /// Whether no element is NaN or infinite.
  var isFinite: Bool { unsafe withUnsafeBufferPointer { unsafe $0.allSatisfy(\.isFinite) } }
}
