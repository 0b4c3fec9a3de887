import Glibc

extension CheckpointFolder {
  /// Says what a folder without weights that can be read holds instead, and what to do.
  ///
  /// - Parameter names: the names of the folder's files.
  static func missingWeights(_ names: [String]) -> String {
    func list(_ names: [String]) -> String {
      names.prefix(2).map(quoted).joined(separator: ", ") + (names.count > 2 ? ", …" : "")
    }
    let wanted = "expected \(single), or \(index) and the shards that it names"
    let safetensors = names.filter { $0.hasSuffix(".safetensors") }
    let shards = safetensors.filter { $0.contains("-of-") }
    if !shards.isEmpty {
      return
        "holds shards such as \(list(shards)) but no \(index), which says where each tensor is; "
        + "download that file too"
    }
    if !safetensors.isEmpty { return "holds \(list(safetensors)), \(wanted)" }
    let gguf = names.filter { $0.hasSuffix(".gguf") }
    if !gguf.isEmpty {
      return
        "holds \(list(gguf)), and GGUF is not read; \(wanted), which the model's original repository has"
    }
    let pickled = names.filter { name in
      [".bin", ".pt", ".pth", ".ckpt"].contains { name.hasSuffix($0) }
    }
    if !pickled.isEmpty {
      return
        "holds \(list(pickled)), which only PyTorch reads; \(wanted), which transformers writes by "
        + "save_pretrained"
    }
    return
      "holds \(names.contains("config.json") ? "no weights" : "no config.json and no weights"), \(wanted)"
  }

  /// The paths of the files that are read, and of all others of the folder but safetensors files that no index names.
  var filePaths: [String] {
    let others = fileNames(inFolder: path).filter { !$0.hasSuffix(".safetensors") }
    return openFilePaths + others.map { "\(path)/\($0)" }
  }
}

/// The names in a folder, sorted; none where it cannot be read.
func fileNames(inFolder path: String) -> [String] {
  guard let folder = unsafe opendir(path) else { return [] }
  defer { unsafe closedir(folder) }
  var names: [String] = []
  while let entry = unsafe readdir(folder) {
    let name = unsafe withUnsafePointer(to: &entry.pointee.d_name) { bytes in
      unsafe bytes.withMemoryRebound(to: CChar.self, capacity: 256) { unsafe String(cString: $0) }
    }
    if name != ".", name != ".." { names.append(name) }
  }
  return names.sorted()
}
