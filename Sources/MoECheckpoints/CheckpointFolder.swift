import MoECore

/// A checkpoint folder as the hub has it: config.json beside model.safetensors, or beside
/// model.safetensors.index.json and the shards that it names.
struct CheckpointFolder: Sendable {
  static let single = "model.safetensors"
  static let index = "model.safetensors.index.json"

  let path: String
  let config: ConfigFile
  private let files: [SafetensorsFile]
  /// The place in `files` of the file that holds a tensor, by the tensor's name.
  private let places: [String: Int]

  /// Opens every file of the folder and reads the headers.
  ///
  /// - Throws: ``CheckpointError`` where a file is missing or malformed, or index and shards disagree.
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
    let configBytes = try open("config.json")
    config = try ConfigFile(parsing: configBytes.copy(0..<configBytes.count), path: "\(path)/config.json")
    // Where both are there, transformers takes the single file.
    guard !exists(Self.single), exists(Self.index) else {
      let file = try SafetensorsFile(open(Self.single), path: "\(path)/\(Self.single)")
      files = [file]
      places = Dictionary(uniqueKeysWithValues: file.names.map { ($0, 0) })
      return
    }
    let indexPath = "\(path)/\(Self.index)"
    let bytes = try open(Self.index)
    let weightMap = try Self.weightMap(bytes.copy(0..<bytes.count), path: indexPath)
    var shards: [SafetensorsFile] = []
    var places: [String: Int] = [:]
    let shardNames = Set(weightMap.values).sorted()
    if let missing = shardNames.first(where: { !exists($0) }) {
      throw CheckpointError(indexPath, "names the shard \(quoted(missing)), which does not exist")
    }
    for shard in shardNames {
      let file = try SafetensorsFile(open(shard), path: "\(path)/\(shard)")
      for name in file.names {
        guard let home = weightMap[name] else {
          throw CheckpointError(file.path, "tensor \(quoted(name)) is not in the index")
        }
        guard home == shard else {
          throw CheckpointError(file.path, "tensor \(quoted(name)) is in the index under \(quoted(home))")
        }
        places[name] = shards.count
      }
      shards.append(file)
    }
    for (name, shard) in weightMap.sorted(by: { $0.key < $1.key }) where places[name] == nil {
      throw CheckpointError(indexPath, "places tensor \(quoted(name)) in \(quoted(shard)), which lacks it")
    }
    files = shards
    self.places = places
  }

  /// The shard of each tensor.
  private static func weightMap(_ bytes: [UInt8], path: String) throws(CheckpointError) -> [String: String] {
    guard case .object(let members) = try JSONValue(parsing: bytes, path: path),
      case .object(let map)? = members["weight_map"]
    else {
      throw CheckpointError(path, "has no object “weight_map” of tensor names and shards")
    }
    var shards: [String: String] = [:]
    for (name, value) in map.sorted(by: { $0.key < $1.key }) {
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

  /// All tensors' names, in no particular order.
  var names: some Collection<String> { places.keys }

  /// The file that holds a tensor.
  ///
  /// - Throws: ``CheckpointError`` where none does.
  func file(of name: String) throws(CheckpointError) -> SafetensorsFile {
    guard let place = places[name] else {
      throw CheckpointError(
        files.count == 1 ? files[0].path : "\(path)/\(Self.index)", "tensor \(quoted(name)) is missing")
    }
    return files[place]
  }

  /// A matrix stored as blocks of four-bit floats; `view` counts rows and blocks. The two tensors may be in
  /// different shards.
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
