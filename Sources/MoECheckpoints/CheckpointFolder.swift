import MoECore

/// A checkpoint folder of the hub: config.json beside model.safetensors, or beside model.safetensors.index.json and the
/// shards that it names.
///
/// A shard that is missing, and a tensor that the index lists and no shard has, are errors only where that tensor is
/// asked for: part of a large checkpoint is enough to read the layers that are in it.
struct CheckpointFolder: Sendable {
  static let single = "model.safetensors"
  static let index = "model.safetensors.index.json"

  let path: String
  let config: ConfigFile
  /// The text of config.json.
  let configBytes: [UInt8]
  private let files: [SafetensorsFile]
  /// The place in `files` of the file that holds a tensor, by the tensor's name.
  private let places: NamedValues<Int>
  /// The file that the index names for each tensor that is in none.
  private let absent: NamedValues<String>

  /// Opens every file of the folder and reads the headers.
  ///
  /// - Throws: ``CheckpointError`` where config.json or model.safetensors is missing, a file is malformed, or a shard
  ///   has a tensor that the index places elsewhere or does not list.
  init(path: String) throws(CheckpointError) {
    if isFile(path) { throw CheckpointError(path, "is not a folder with config.json and safetensors files") }
    try self.init(path: path) { (name) throws(CheckpointError) in
      try MappedBytes(path: "\(path)/\(name)")
    } exists: { name in
      isFile("\(path)/\(name)")
    } names: {
      fileNames(inFolder: path)
    }
  }

  /// Opens a folder that is in memory, for tests and fuzzing.
  init(files: [String: [UInt8]]) throws(CheckpointError) {
    let path = "memory"
    try self.init(path: path) { (name) throws(CheckpointError) in
      guard let bytes = files[name] else { throw CheckpointError("\(path)/\(name)", "does not exist") }
      return MappedBytes(bytes)
    } exists: { name in
      files[name] != nil
    } names: {
      files.keys.sorted()
    }
  }

  private init(
    path: String, open: (String) throws(CheckpointError) -> MappedBytes, exists: (String) -> Bool,
    names: () -> [String]
  ) throws(CheckpointError) {
    self.path = path
    let found = exists(Self.single) || exists(Self.index) ? [] : names()
    if !found.isEmpty { throw CheckpointError(path, Self.missingWeights(found)) }
    let mappedConfig = try open("config.json")
    configBytes = mappedConfig.copy(0..<mappedConfig.count)
    config = try ConfigFile(parsing: configBytes, path: "\(path)/config.json")
    // A folder may have both; transformers then reads the single file.
    guard !exists(Self.single), exists(Self.index) else {
      let file = try SafetensorsFile(open(Self.single), path: "\(path)/\(Self.single)")
      files = [file]
      places = file.tensors.reduce(into: [:]) { places, tensor in places[tensor.key] = 0 }
      absent = [:]
      return
    }
    let indexPath = "\(path)/\(Self.index)"
    let bytes = try open(Self.index)
    let weightMap = try Self.weightMap(bytes.copy(0..<bytes.count), path: indexPath)
    var shards: [SafetensorsFile] = []
    var places = NamedValues<Int>()
    let shardNames = weightMap.reduce(into: NamedValues<Void>()) { names, entry in names[entry.value] = () }
    for shard in shardNames.keys where exists(shard) {
      let file = try SafetensorsFile(open(shard), path: "\(path)/\(shard)")
      for name in file.names {
        guard let home = weightMap[name] else {
          throw CheckpointError(file.path, "tensor \(quoted(name)) is not in the index")
        }
        guard home.utf8.elementsEqual(shard.utf8) else {
          throw CheckpointError(file.path, "tensor \(quoted(name)) is in the index under \(quoted(home))")
        }
        places[name] = shards.count
      }
      shards.append(file)
    }
    files = shards
    absent = weightMap.filter { places[$0.key] == nil }
    self.places = places
  }

  /// Returns the shard of each tensor.
  private static func weightMap(
    _ bytes: [UInt8], path: String
  ) throws(CheckpointError) -> NamedValues<String> {
    guard case .object(let members) = try JSONValue(parsing: bytes, path: path),
      case .object(let map)? = members["weight_map"]
    else {
      throw CheckpointError(path, "has no object “weight_map” of tensor names and shards")
    }
    var shards = NamedValues<String>()
    for (name, value) in map {
      guard case .string(let shard) = value else {
        throw CheckpointError(path, "places tensor \(quoted(name)) in \(value.kind), expected a file name")
      }
      let steps = shard.split(separator: "/", omittingEmptySubsequences: false)
      guard steps.allSatisfy({ !$0.isEmpty && $0 != "." && $0 != ".." }), !shard.utf8.contains(0) else {
        throw CheckpointError(
          path, "places tensor \(quoted(name)) in \(quoted(shard)), which is not a path inside the folder")
      }
      shards[name] = shard
    }
    return shards
  }

  /// The paths of the safetensors files that are open.
  var openFilePaths: [String] { files.map(\.path) }

  /// The names of all tensors that a file has, in the order of their bytes.
  var names: [String] { places.keys }

  /// Returns the file that holds a tensor.
  ///
  /// - Throws: ``CheckpointError`` where none does.
  func file(of name: String) throws(CheckpointError) -> SafetensorsFile {
    if let place = places[name] { return files[place] }
    if let shard = absent[name] {
      let shardPath = "\(path)/\(shard)"
      throw CheckpointError(
        "\(path)/\(Self.index)",
        "places tensor \(quoted(name)) in \(quoted(shard)), "
          + (files.contains { $0.path == shardPath } ? "which lacks it" : "which does not exist"))
    }
    throw CheckpointError(
      files.count == 1 ? files[0].path : "\(path)/\(Self.index)", "tensor \(quoted(name)) is missing")
  }

  /// Returns a matrix that is stored as blocks of four-bit floats; `view` counts rows and blocks. The two tensors may
  /// be in different shards.
  func matrix(blocks: String, scales: String, _ view: StridedView) throws(CheckpointError) -> Matrix {
    let (blockFile, scaleFile) = (try file(of: blocks), try file(of: scales))
    let count = min(try blockFile.tensor(blocks).count / MXFP4.blockBytes, try scaleFile.tensor(scales).count)
    precondition(view.end <= count, "a view ends beyond the tensor \(blocks)")
    let scaleBytes = try scaleFile.bytes(named: scales)
    return try unsafe blockFile.withPackedBytes(named: blocks) { blocks in
      unsafe MXFP4.matrix(blocks: blocks, scales: scaleBytes, view)
    }
  }
}
