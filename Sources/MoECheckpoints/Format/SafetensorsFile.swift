public import MoECore

/// A safetensors file, mapped into memory. Opening it reads the header alone; the bytes of a tensor are read when they
/// are asked for.
///
/// Nothing in the file is trusted: opening it succeeds or throws, whatever its bytes are. Names of tensors are compared
/// by their UTF-8 bytes. A tensor of a type that is not computed here does not hinder others: it has a type, a shape and
/// bytes, and asking for its values throws.
public struct SafetensorsFile: Sendable {
  /// One tensor, as the header describes it.
  public struct Tensor: Sendable, Equatable {
    /// The type of its elements.
    public let type: ElementType
    /// Its extents, the slowest first; empty for a scalar.
    public let shape: [Int]
    /// The number of elements, the product of the shape.
    public let count: Int
    /// The place of its bytes in the file.
    public let bytes: Range<Int>
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
  ///   - name: the file, as errors name it.
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
  public var tensors: NamedValues<Tensor> { header.tensors }

  /// The tensors' names in the order of their bytes.
  public var names: [String] { header.names }

  /// The strings of `__metadata__` by name.
  public var metadata: NamedValues<String> { header.metadata }

  /// Returns the header's description of the tensor called `name`.
  ///
  /// - Throws: ``CheckpointError`` where there is none.
  public func tensor(_ name: String) throws(CheckpointError) -> Tensor {
    guard let tensor = header.tensors[name] else {
      throw CheckpointError(path, "tensor \(quoted(name)) is missing")
    }
    return tensor
  }

  /// Calls `body` with the number of the header's bytes and with all bytes of the file. The pointer is valid inside `body`
  /// alone.
  package func withAllBytes<Result>(_ body: (_ headerCount: Int, UnsafeRawBufferPointer) -> Result) -> Result
  {
    unsafe storage.withBytes(0..<storage.count) { unsafe body(header.dataStart, $0) }
  }

  /// Returns a tensor of two dimensions `[rows, columns]`, converted to `Float`.
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

  /// Returns the elements of a tensor of any shape, the slowest dimension first, converted to `Float`.
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

  /// Returns some rows of a tensor taken as `[count / columns, columns]`, converted to `Float`. No other row is read.
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

  /// Returns the elements of an I32 tensor of any shape, the slowest dimension first.
  ///
  /// - Throws: ``CheckpointError`` where there is none, or it is not I32.
  public func integers(named name: String) throws(CheckpointError) -> [Int32] {
    let tensor = try tensor(name)
    guard tensor.type == .int32 else { throw wrongType(name, tensor, "I32") }
    return unsafe storage.withBytes(tensor.bytes) { unsafe decodeIntegers($0) }
  }

  /// Returns the bytes of a tensor of any type.
  ///
  /// - Throws: ``CheckpointError`` where there is none.
  public func bytes(named name: String) throws(CheckpointError) -> [UInt8] {
    storage.copy(try tensor(name).bytes)
  }

  /// Calls `body` with the bytes of a tensor of any type. The pointer is valid inside `body` alone.
  ///
  /// - Throws: ``CheckpointError`` where there is none.
  package func withBytes<Result>(
    named name: String, _ body: (UnsafeRawBufferPointer) -> Result
  ) throws(CheckpointError) -> Result {
    unsafe storage.withBytes(try tensor(name).bytes, body)
  }

  /// Returns the part of a tensor that `view` describes, as a matrix. No other part is read.
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

  /// Calls `body` with the bytes of a U8 tensor. The pointer is valid inside `body` alone.
  ///
  /// - Throws: ``CheckpointError`` where there is none, or it is not U8.
  func withPackedBytes<Result>(
    named name: String, _ body: (UnsafeRawBufferPointer) -> Result
  ) throws(CheckpointError) -> Result {
    let tensor = try tensor(name)
    guard tensor.type == .uint8 else { throw wrongType(name, tensor, "U8") }
    return unsafe storage.withBytes(tensor.bytes, body)
  }

  private func wrongType(_ name: String, _ tensor: Tensor, _ expected: String) -> CheckpointError {
    CheckpointError(path, "tensor \(quoted(name)) is \(tensor.type), expected \(expected)")
  }
}
