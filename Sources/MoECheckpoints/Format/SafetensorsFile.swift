public import MoECore

/// A safetensors file, mapped into memory: opening it reads the header only, and each tensor's bytes are read
/// when they are asked for.
///
/// Nothing in the file is trusted: whatever its bytes are, opening it succeeds or throws.
public struct SafetensorsFile: Sendable {
  /// What the header says of one tensor.
  public struct Tensor: Sendable, Equatable {
    /// The type of its elements.
    public let type: ElementType
    /// Its extents, the slowest first; none for a scalar.
    public let shape: [Int]
    /// Where its bytes are in the file.
    public let bytes: Range<Int>

    /// The number of elements, the product of the shape.
    public var count: Int { bytes.count / type.byteCount }
  }

  /// The file, as errors name it.
  public let path: String
  private let storage: MappedBytes
  private let header: SafetensorsHeader

  /// Opens the file at `path`.
  ///
  /// - Throws: ``CheckpointError`` where it cannot be read or breaks a rule of the format.
  public init(path: String) throws(CheckpointError) {
    try self.init(MappedBytes(path: path), path: path)
  }

  /// Reads a file that is in memory.
  ///
  /// - Parameters:
  ///   - bytes: the whole file.
  ///   - name: what errors call it.
  /// - Throws: ``CheckpointError`` where it breaks a rule of the format.
  public init(bytes: [UInt8], name: String) throws(CheckpointError) {
    try self.init(MappedBytes(bytes), path: name)
  }

  init(_ storage: MappedBytes, path: String) throws(CheckpointError) {
    self.path = path
    self.storage = storage
    header = try SafetensorsHeader(of: storage, path: path)
  }

  /// The tensors by name.
  public var tensors: [String: Tensor] { header.tensors }

  /// The tensors' names in the order of their bytes.
  public var names: [String] { header.names }

  /// What `__metadata__` says.
  public var metadata: [String: String] { header.metadata }

  /// What the header says of the tensor called `name`.
  ///
  /// - Throws: ``CheckpointError`` where there is none.
  public func tensor(_ name: String) throws(CheckpointError) -> Tensor {
    guard let tensor = header.tensors[name] else {
      throw CheckpointError(path, "tensor \(quoted(name)) is missing")
    }
    return tensor
  }

  /// The hash of the whole file, which reads all of it.
  package func digest() -> FileDigest {
    var hash = SHA256()
    unsafe storage.withBytes(0..<storage.count) { unsafe hash.update($0) }
    return FileDigest(byteCount: storage.count, sha256: hash.digest())
  }

  /// A tensor of two dimensions `[rows, columns]`, converted to `Float`.
  ///
  /// - Throws: ``CheckpointError`` where there is none, or it is not F32, F16 or BF16, or not of rank 2.
  public func matrix(named name: String) throws(CheckpointError) -> Matrix {
    let tensor = try tensor(name)
    guard tensor.shape.count == 2 else {
      throw CheckpointError(
        path, "tensor \(quoted(name)) has shape \(tensor.shape), expected two dimensions")
    }
    return try matrix(
      named: name,
      StridedView(start: 0, rows: tensor.shape[0], columns: tensor.shape[1], rowStride: tensor.shape[1]))
  }

  /// The elements of a tensor of any shape, slowest dimension first, converted to `Float`.
  ///
  /// - Throws: ``CheckpointError`` where there is none, or it is not F32, F16 or BF16.
  public func floats(named name: String) throws(CheckpointError) -> [Float] {
    let tensor = try tensor(name)
    guard tensor.type.isFloat else { throw wrongType(name, tensor, "F32, F16 or BF16") }
    let whole = StridedView(start: 0, rows: 1, columns: tensor.count, rowStride: tensor.count)
    return unsafe [Float](unsafeUninitializedCapacity: tensor.count) { target, count in
      unsafe storage.withBytes(tensor.bytes) { unsafe decode($0, as: tensor.type, whole, into: target) }
      count = tensor.count
    }
  }

  /// Some rows of a tensor taken as `[count / columns, columns]`, converted to `Float`; nothing else of it is read.
  ///
  /// - Precondition: the rows lie within the tensor.
  /// - Throws: ``CheckpointError`` where there is none, or it is not F32, F16 or BF16.
  public func rows(
    _ range: Range<Int>, named name: String, columns: Int
  ) throws(CheckpointError) -> Matrix {
    try matrix(
      named: name,
      StridedView(
        start: range.lowerBound * columns, rows: range.count, columns: columns, rowStride: columns))
  }

  /// The elements of an I32 tensor of any shape, slowest dimension first.
  ///
  /// - Throws: ``CheckpointError`` where there is none, or it is not I32.
  public func integers(named name: String) throws(CheckpointError) -> [Int32] {
    let tensor = try tensor(name)
    guard tensor.type == .int32 else { throw wrongType(name, tensor, "I32") }
    return unsafe storage.withBytes(tensor.bytes) { unsafe decodeIntegers($0) }
  }

  /// The bytes of a tensor of any type.
  ///
  /// - Throws: ``CheckpointError`` where there is none.
  public func bytes(named name: String) throws(CheckpointError) -> [UInt8] {
    storage.copy(try tensor(name).bytes)
  }

  /// The part of a tensor that `view` describes, as a matrix; nothing else of the tensor is read.
  ///
  /// - Precondition: the view lies within the tensor.
  func matrix(named name: String, _ view: StridedView) throws(CheckpointError) -> Matrix {
    let tensor = try tensor(name)
    guard tensor.type.isFloat else { throw wrongType(name, tensor, "F32, F16 or BF16") }
    precondition(view.end <= tensor.count, "a view ends beyond the tensor \(name)")
    var matrix = Matrix(rows: view.rows, columns: view.columns)
    unsafe matrix.withUnsafeMutableBufferPointer { target in
      unsafe storage.withBytes(tensor.bytes) { unsafe decode($0, as: tensor.type, view, into: target) }
    }
    return matrix
  }

  /// Calls `body` with the bytes of a U8 tensor; the pointer is valid only inside.
  func withPackedBytes<Result>(
    named name: String, _ body: (UnsafeRawBufferPointer) -> Result
  ) throws(CheckpointError) -> Result {
    let tensor = try tensor(name)
    guard tensor.type == .uint8 else { throw wrongType(name, tensor, "U8") }
    return unsafe storage.withBytes(tensor.bytes, body)
  }

  private func wrongType(_ name: String, _ tensor: Tensor, _ expected: String) -> CheckpointError {
    CheckpointError(path, "tensor \(quoted(name)) is \(tensor.type.rawValue), expected \(expected)")
  }
}
