internal import Foundation
internal import MoECheckpoints

/// The names of checkpoints: `checkpoint.safetensors` and `checkpoint-previous.safetensors` of one rank,
/// `checkpoint-<step>` of several ranks.
extension CheckpointStore {
  static let newestFile = "checkpoint.safetensors"
  static let previousFile = "checkpoint-previous.safetensors"
  /// The name of a checkpoint while it is written.
  static let nextFile = "checkpoint-next.safetensors"
  static let nextFolder = "checkpoint-next"
  /// The suffix that a folder gets while a new checkpoint of that step takes its name.
  static let replaced = ".previous"

  func path(_ name: String) -> String { "\(path)/\(name)" }

  static func folderName(step: Int) -> String { "checkpoint-\(step)" }

  /// Returns the step in the name of a checkpoint's folder; nil for another name.
  static func step(ofFolder name: String) -> Int? {
    let stem = name.hasSuffix(replaced) ? String(name.dropLast(replaced.count)) : name
    guard stem.hasPrefix("checkpoint-"), let step = Int(stem.dropFirst("checkpoint-".count)), step >= 0,
      stem == folderName(step: step)
    else { return nil }
    return step
  }

  /// Returns the names of files and folders that should be checkpoints, the newest first.
  ///
  /// `checkpoint.safetensors` comes first if its step cannot be read: skipping it silently would hide the damage.
  /// `checkpoint-previous.safetensors` then comes last.
  func names() -> [String] {
    let all = fileNames(in: path)
    let folders = all.filter { Self.step(ofFolder: $0) != nil }
    var files = all.filter { $0 == Self.newestFile || $0 == Self.previousFile }
    if folders.isEmpty, isExpected || !files.isEmpty, !files.contains(Self.newestFile) {
      files.append(Self.newestFile)
    }
    var steps: [String: Int] = [:]
    for name in folders { steps[name] = Self.step(ofFolder: name)! }
    for name in files {
      // Beside folders, the step decides which is newer: a damaged step must not hide the file behind a folder.
      let step = folders.isEmpty ? openedStep(of: name) : verifiedStep(ofFile: name)
      steps[name] = step ?? (name == Self.newestFile ? .max : -1)
    }
    // The newest file is never older than the previous one: a smaller step in it is damage, which must be found.
    if let newest = steps[Self.newestFile] {
      steps[Self.newestFile] = max(newest, steps[Self.previousFile] ?? newest)
    }
    // A folder comes before the folder of its step that it replaced.
    func order(_ name: String) -> (Int, String) { (-steps[name]!, name == Self.newestFile ? "" : name) }
    return steps.keys.sorted { order($0) < order($1) }
  }

  /// Returns the step that a checkpoint's manifest or header says; nil where the checkpoint cannot be opened.
  func openedStep(of name: String) -> Int? {
    guard let step = Self.step(ofFolder: name) else { return try? openFile(name).step }
    let path = path("\(name)/\(CheckpointManifest.name)")
    guard let bytes = try? contents(ofFile: path, atMost: CheckpointManifest.limit),
      let manifest = try? CheckpointManifest(parsing: bytes, path: path), manifest.step == step
    else { return nil }
    return step
  }

  /// Returns the step in a file's header, after the whole file was compared with its hash; nil for a damaged file.
  private func verifiedStep(ofFile name: String) -> Int? {
    guard let (file, step) = try? openFile(name), (try? CheckpointSeal.verify(file)) != nil else {
      return nil
    }
    return step
  }

  func openFile(_ name: String) throws(CheckpointError) -> (file: SafetensorsFile, step: Int) {
    let file = try SafetensorsFile(path: path(name))
    try CheckpointSeal.checkFormat(of: file)
    guard let step = file.metadata["step"].flatMap(Int.init), step >= 0 else {
      throw CheckpointError(file.path, "its metadata has no step, so it is no checkpoint of a run")
    }
    return (file, step)
  }
}

/// Returns the names in a folder; none where the folder cannot be read.
func fileNames(in folder: String) -> [String] {
  (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
}
