public import MoECore

/// A row-major buffer of floats with fences of NaN before it, behind it and between its rows, for tests of kernels
/// that may read and write only its body.
///
/// The fences have the bits of one NaN and the body is filled with another, so each mistake has a different effect. A
/// store outside the body changes a fence. A load from outside the body makes a NaN in the result. An element that was
/// never stored still has the bits of the filling.
///
/// `@safe`: the pointer is private to the class except through ``base``, which a test marks `unsafe`.
@safe public final class FencedBuffer {
  /// The bits of the fences, a quiet NaN.
  public static let fenceBits: UInt32 = 0x7FC0_FE9C
  /// The bits of an element that was never stored, another quiet NaN.
  public static let fillingBits: UInt32 = 0x7FC0_F111
  /// The number of elements of each outer fence: four cache lines, wider than any vector or unrolled tile row.
  public static let fenceLength = 64

  /// The number of rows.
  public let rows: Int
  /// The number of elements of a row.
  public let columns: Int
  /// The distance between rows in elements.
  public let stride: Int
  private let storage: UnsafeMutableBufferPointer<Float>
  private let start: Int

  /// Makes a buffer whose body is unwritten.
  ///
  /// - Parameters:
  ///   - padding: the number of fence elements behind each row.
  ///   - misalignment: the number of elements between a cache line's start and the start of the body.
  public init(rows: Int, columns: Int, padding: Int = 0, misalignment: Int = 0) {
    self.rows = rows
    self.columns = columns
    stride = columns + padding
    start = Self.fenceLength + misalignment
    let count = start + rows * stride + Self.fenceLength
    let bytes = UnsafeMutableRawBufferPointer.allocate(
      byteCount: count * MemoryLayout<Float>.stride, alignment: 64)
    unsafe storage = bytes.bindMemory(to: Float.self)
    unsafe storage.initialize(repeating: Float(bitPattern: Self.fenceBits))
    for row in 0..<rows { for column in 0..<columns { fill(row, column, bits: Self.fillingBits) } }
  }

  /// Makes a buffer that holds a matrix.
  public convenience init(_ matrix: Matrix, padding: Int = 0, misalignment: Int = 0) {
    self.init(rows: matrix.rows, columns: matrix.columns, padding: padding, misalignment: misalignment)
    for row in 0..<rows { for column in 0..<columns { self[row, column] = matrix[row, column] } }
  }

  /// Makes a buffer of one row that holds a list.
  public convenience init(_ elements: [Float], misalignment: Int = 0) {
    self.init(rows: 1, columns: elements.count, misalignment: misalignment)
    for (column, element) in elements.enumerated() { self[0, column] = element }
  }

  deinit { unsafe storage.deallocate() }

  /// The address of the body's first element, valid as long as the buffer is kept alive (`withExtendedLifetime`).
  public var base: UnsafeMutablePointer<Float> { unsafe storage.baseAddress! + start }

  /// The element of the body in the given row and column.
  public subscript(row: Int, column: Int) -> Float {
    get { unsafe storage[index(row, column)] }
    set { unsafe storage[index(row, column)] = newValue }
  }

  /// The body, copied.
  public var matrix: Matrix {
    var matrix = Matrix(rows: rows, columns: columns)
    for row in 0..<rows { for column in 0..<columns { matrix[row, column] = self[row, column] } }
    return matrix
  }

  /// Whether every element outside the body still has the bits of the fences.
  public var fencesIntact: Bool {
    unsafe storage.indices.allSatisfy { position in
      isInBody(position) || (unsafe storage[position].bitPattern == Self.fenceBits)
    }
  }

  /// The number of elements of the body that still have the bits of the filling.
  public var unwrittenCount: Int {
    unsafe storage.indices.count { position in
      isInBody(position) && (unsafe storage[position].bitPattern == Self.fillingBits)
    }
  }

  private func index(_ row: Int, _ column: Int) -> Int {
    precondition(
      (0..<rows).contains(row) && (0..<columns).contains(column),
      "[\(row), \(column)] is outside [\(rows), \(columns)]")
    return start + row * stride + column
  }

  private func isInBody(_ position: Int) -> Bool {
    let offset = position - start
    return offset >= 0 && offset < rows * stride && offset % stride < columns
  }

  private func fill(_ row: Int, _ column: Int, bits: UInt32) {
    unsafe storage[index(row, column)] = Float(bitPattern: bits)
  }
}
