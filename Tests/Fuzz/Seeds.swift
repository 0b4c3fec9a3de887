import Glibc
import MoECheckpoints
import MoECore

/// A good checkpoint.
struct Seed {
  var name: String
  var files: [String: [UInt8]]
}

/// Two tiny checkpoints: one file with an expert's projections apart, and two shards with experts stacked.
func builtInSeeds() -> [Seed] {
  func file(_ tensors: [(String, [Int])]) -> [UInt8] {
    var writer = SafetensorsWriter(metadata: ["format": "pt"])
    for (name, shape) in tensors {
      let values = (0..<shape.reduce(1, *)).map { Float($0) / 16 }
      do { try writer.add(name, values, shape: shape) } catch { fatalError("\(error)") }
    }
    return writer.bytes()
  }
  let separate = (0..<2).flatMap { layer in
    let block = "model.layers.\(layer).block_sparse_moe"
    return [("\(block).gate.weight", [2, 4])]
      + (0..<2).flatMap { expert in
        [("w1", [3, 4]), ("w2", [4, 3]), ("w3", [3, 4])].map {
          ("\(block).experts.\(expert).\($0.0).weight", $0.1)
        }
      }
  }
  let block = "model.layers.0.block_sparse_moe"
  let index = """
    {"metadata": {"total_size": 320}, "weight_map": {"\(block).router.layer.weight": "a.safetensors",
    "\(block).input_linear.weight": "a.safetensors", "\(block).output_linear.weight": "b.safetensors"}}
    """
  return [
    Seed(
      name: "mixtral",
      files: [
        "config.json": Array(
          """
          {"model_type": "mixtral", "hidden_size": 4, "intermediate_size": 3, "num_local_experts": 2,
          "num_experts_per_tok": 1, "num_hidden_layers": 2, "hidden_act": "silu"}
          """.utf8),
        "model.safetensors": file(separate),
      ]),
    Seed(
      name: "granitemoe in shards",
      files: [
        "config.json": Array(
          """
          {"model_type": "granitemoe", "hidden_size": 4, "intermediate_size": 3, "num_local_experts": 2,
          "num_experts_per_tok": 2, "num_hidden_layers": 1}
          """.utf8),
        "model.safetensors.index.json": Array(index.utf8),
        "a.safetensors": file([
          ("\(block).router.layer.weight", [2, 4]), ("\(block).input_linear.weight", [2, 6, 4]),
        ]),
        "b.safetensors": file([("\(block).output_linear.weight", [2, 4, 3])]),
      ]),
  ]
}

/// The checkpoints in the folders inside `folder`.
func seedsInFolder(_ folder: String) -> [Seed] {
  names(in: folder).compactMap { name in
    let path = "\(folder)/\(name)"
    var files: [String: [UInt8]] = [:]
    for file in names(in: path) where file != "expected.safetensors" {
      files[file] = contents(of: "\(path)/\(file)")
    }
    return files["config.json"] == nil ? nil : Seed(name: path, files: files)
  }
}

/// The names in a folder, sorted; none where it is no folder.
private func names(in folder: String) -> [String] {
  guard let stream = unsafe opendir(folder) else { return [] }
  defer { unsafe closedir(stream) }
  var names: [String] = []
  while let entry = unsafe readdir(stream) {
    let name = unsafe withUnsafePointer(to: &entry.pointee.d_name) {
      unsafe String(cString: UnsafeRawPointer($0).assumingMemoryBound(to: CChar.self))
    }
    if !name.hasPrefix(".") { names.append(name) }
  }
  return names.sorted()
}

/// A file's bytes; none where it cannot be read.
private func contents(of path: String) -> [UInt8] {
  guard let file = unsafe fopen(path, "rb") else { return [] }
  defer { unsafe fclose(file) }
  var bytes: [UInt8] = []
  var buffer = [UInt8](repeating: 0, count: 1 << 16)
  while case let count = unsafe fread(&buffer, 1, buffer.count, file), count > 0 { bytes += buffer[..<count] }
  return bytes
}
