package import MoECheckpoints
package import MoECore

/// A checkpoint of several files: one safetensors file per rank that wrote it, and `manifest.json`, which is written
/// last.
package final class ShardedCheckpoint {
  /// The folder.
  package let path: String
  /// The manifest, which names the files and tensors.
  package let manifest: CheckpointManifest
  /// The files that this rank has opened.
  private var files: [Int: SafetensorsFile] = [:]

  private var manifestPath: String { "\(path)/\(CheckpointManifest.name)" }
  private func path(of file: Int) -> String { "\(path)/\(manifest.fileName(file))" }

  /// Opens a checkpoint and verifies all of it. A collective.
  ///
  /// Rank 0 reads the manifest and sends it to all. Each file is verified by one rank, which compares its length,
  /// SHA-256 and header with the manifest: of R ranks, rank f mod R verifies file f.
  ///
  /// - Parameters:
  ///   - path: the folder, one for all ranks, on a file system that all ranks reach.
  ///   - step: the step that the manifest must have.
  ///   - ranks: the ranks that open the checkpoint; their number may differ from that of the ranks that wrote it.
  /// - Throws: `CheckpointError`, equal on all ranks, naming the file and, where one is damaged, the tensor.
  package init(_ path: String, step: Int, over ranks: CheckpointRanks) throws {
    self.path = path
    let label = "checkpoint \(path)"
    let manifestPath = "\(path)/\(CheckpointManifest.name)"
    let bytes = try ranks.agree(step: label) {
      ranks.rank > 0 ? [] : try contents(ofFile: manifestPath, atMost: CheckpointManifest.limit)
    }
    manifest = try CheckpointManifest(
      parsing: try ranks.gather(bytes, step: label)[0], path: manifestPath)
    guard manifest.step == step else {
      throw CheckpointError(manifestPath, "it is of step \(manifest.step), but its folder of step \(step)")
    }
    try ranks.agree(step: label) {
      if ranks.rank == 0 { try refuseUnknownShards() }
      let names = manifest.namesByFile()
      for file in stride(from: ranks.rank, to: names.count, by: ranks.size) {
        try verify(file, holding: names[file])
      }
    }
  }

  private func refuseUnknownShards() throws(CheckpointError) {
    let known = Set(manifest.files.indices.map(manifest.fileName))
    for name in fileNames(in: path).sorted()
    where name.hasPrefix("rank-") && name.hasSuffix(".safetensors") && !known.contains(name) {
      throw CheckpointError("\(path)/\(name)", "the file is none of those that manifest.json names")
    }
  }

  private func verify(_ index: Int, holding names: [String]) throws(CheckpointError) {
    let path = path(of: index)
    let burden =
      switch names.count {
      case 0: "it holds no tensor"
      case 1: "it holds tensor \(quoted(names[0]))"
      default: "it holds tensor \(quoted(names[0])) and \(names.count - 1) more"
      }
    let file: SafetensorsFile
    do throws(CheckpointError) {
      file = try SafetensorsFile(path: path)
    } catch {
      throw CheckpointError(path, "\(error.complaint); \(burden)")
    }
    for name in names { try file.check(name, shape: manifest.tensors[name]!.shape) }
    if let extra = file.names.first(where: { manifest.tensors[$0]?.file != index }) {
      throw CheckpointError(
        path, "tensor \(quoted(extra)) is none of those that manifest.json says are in it")
    }
    let (found, expected) = (file.digest(), manifest.files[index])
    guard found.byteCount == expected.byteCount else {
      throw CheckpointError(
        path, "is \(found.byteCount) bytes long, expected \(expected.byteCount) by manifest.json; \(burden)")
    }
    guard found == expected else {
      throw CheckpointError(
        path,
        "has the SHA-256 \(found.hexadecimal), expected \(expected.hexadecimal) by manifest.json; \(burden)")
    }
    files[index] = file
  }

  private func file(_ index: Int) throws(CheckpointError) -> SafetensorsFile {
    if let file = files[index] { return file }
    let file = try SafetensorsFile(path: path(of: index))
    files[index] = file
    return file
  }
}

extension ShardedCheckpoint: CheckpointContent {
  package var metadata: NamedValues<String> { manifest.metadata }
  package var names: [String] { manifest.tensors.keys }

  package func check(_ name: String, shape: [Int]) throws(CheckpointError) {
    guard let tensor = manifest.tensors[name] else {
      throw CheckpointError(manifestPath, "tensor \(quoted(name)) is missing")
    }
    try file(tensor.file).check(name, shape: shape)
  }

  package func matrix(named name: String) throws(CheckpointError) -> Matrix {
    guard let tensor = manifest.tensors[name] else {
      throw CheckpointError(manifestPath, "tensor \(quoted(name)) is missing")
    }
    return try file(tensor.file).matrix(named: name)
  }
}
