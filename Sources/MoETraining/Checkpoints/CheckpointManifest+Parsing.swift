package import MoECheckpoints

extension CheckpointManifest {
  /// Reads the text of a manifest. The text may be damaged or hostile, so every field is checked.
  ///
  /// - Parameters:
  ///   - bytes: the text in UTF-8.
  ///   - path: the file that errors name.
  /// - Throws: `CheckpointError` naming the field, file or tensor that is not as expected.
  package init(parsing bytes: [UInt8], path: String) throws(CheckpointError) {
    let root = try Fields(
      JSONValue(parsing: bytes, path: path), of: "the manifest",
      ["format", "step", "metadata", "files", "tensors", "sha256"], path: path)
    let format = try root.integer("format")
    guard (1...Self.format).contains(format) else {
      throw root.error("has format \(format), expected \(Self.format) or less: another version wrote it")
    }
    step = try root.integer("step")
    metadata = [:]
    for (key, value) in try root.object("metadata") {
      guard case .string(let text) = value else {
        throw root.error("has \(value.kind) as \(quoted(key)) of its metadata, expected a string")
      }
      metadata[key] = text
    }
    let list = try root.list("files")
    files = []
    for (index, value) in list.enumerated() {
      files.append(try Self.file(value, index, of: list.count, path: path))
    }
    guard !files.isEmpty else { throw root.error("names no file, expected at least one") }
    tensors = [:]
    for (name, value) in try root.object("tensors") {
      tensors[name] = try Self.tensor(name, value, files: files, path: path)
    }
    // Format 1 had no hash of the manifest. Each content has only one text, which includes the hash, so any other
    // text is damaged.
    if format > 1, !json.utf8.elementsEqual(bytes) {
      throw root.error("is not the text of its own SHA-256, so it is damaged")
    }
  }

  private static func file(
    _ value: JSONValue, _ index: Int, of count: Int, path: String
  ) throws(CheckpointError) -> FileDigest {
    let fields = try Fields(value, of: "file \(index)", ["name", "bytes", "sha256"], path: path)
    // No other name is accepted, so no path leads out of the folder and no file is named twice.
    let name = try fields.string("name")
    let expected = fileName(rank: index, of: count)
    guard name == expected else { throw fields.error("is \(quoted(name)), expected \(quoted(expected))") }
    let hash = try fields.string("sha256")
    let digits = hash.utf8.compactMap { digit in
      "0123456789abcdef".utf8.enumerated().first { $0.element == digit }.map { UInt8($0.offset) }
    }
    guard digits.count == 64, hash.utf8.count == 64 else {
      throw fields.error("has the SHA-256 \(quoted(hash)), expected 64 digits of 0 to 9 and a to f")
    }
    return FileDigest(
      byteCount: try fields.integer("bytes"),
      sha256: (0..<32).map { digits[2 * $0] << 4 | digits[2 * $0 + 1] })
  }

  private static func tensor(
    _ name: String, _ value: JSONValue, files: [FileDigest], path: String
  ) throws(CheckpointError) -> Tensor {
    let fields = try Fields(value, of: "tensor \(quoted(name))", ["shape", "file"], path: path)
    let file = try fields.integer("file")
    guard file < files.count else {
      throw fields.error("is in file \(file), expected one of \(files.count)")
    }
    var (shape, size) = ([Int](), 4)
    for extent in try fields.list("shape") {
      guard case .integer(let integer) = extent, integer >= 0 else {
        throw fields.error("has \(extent.kind) in its shape, expected an integer from 0 to 2^63 − 1")
      }
      shape.append(integer)
      let (product, overflow) = size.multipliedReportingOverflow(by: integer)
      if overflow { throw fields.error("has a shape whose size overflows 64 bits") }
      size = product
    }
    guard shape.count == 2 else { throw fields.error("has shape \(shape), expected two dimensions") }
    guard size <= files[file].byteCount else {
      throw fields.error(
        "has \(size) bytes by its shape \(shape), but its file only \(files[file].byteCount)")
    }
    return Tensor(shape: shape, file: file)
  }
}

/// The members of a JSON object that has no unknown member.
private struct Fields {
  private let what: String
  private let path: String
  private let members: NamedValues<JSONValue>

  init(_ value: JSONValue, of what: String, _ names: [String], path: String) throws(CheckpointError) {
    self.what = what
    self.path = path
    guard case .object(let members) = value else {
      throw CheckpointError(path, "\(what) is \(value.kind), expected an object")
    }
    self.members = members
    if let unknown = members.keys.first(where: { !names.contains($0) }) {
      throw error("has the unknown field \(quoted(unknown))")
    }
  }

  func error(_ complaint: String) -> CheckpointError { CheckpointError(path, "\(what) \(complaint)") }

  private func wrong(_ name: String, _ expected: String) -> CheckpointError {
    error("has \(members[name].map(\.kind) ?? "no value") as \(name), expected \(expected)")
  }

  /// Returns an integer of at least 0.
  func integer(_ name: String) throws(CheckpointError) -> Int {
    guard case .integer(let value)? = members[name], value >= 0 else {
      throw wrong(name, "an integer from 0 to 2^63 − 1")
    }
    return value
  }

  func string(_ name: String) throws(CheckpointError) -> String {
    guard case .string(let value)? = members[name] else { throw wrong(name, "a string") }
    return value
  }

  func list(_ name: String) throws(CheckpointError) -> [JSONValue] {
    guard case .array(let value)? = members[name] else { throw wrong(name, "a list") }
    return value
  }

  func object(_ name: String) throws(CheckpointError) -> NamedValues<JSONValue> {
    guard case .object(let value)? = members[name] else { throw wrong(name, "an object") }
    return value
  }
}
