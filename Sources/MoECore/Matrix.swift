/// A row-major matrix of floats whose storage begins on a cache line.
///
/// It is storage with a shape: no operators, no broadcasting, nothing lazy. Copies share storage until one
/// of them is written.
public struct Matrix: Sendable {
  /// The number of rows.
  public let rows: Int
  /// The number of columns; also the distance between rows in elements.
  public let columns: Int
  private var storage: AlignedBuffer

  /// Makes a matrix of zeros.
  ///
  /// - Precondition: both extents are at least zero.
  public init(rows: Int, columns: Int) {
    precondition(rows >= 0 && columns >= 0, "a matrix of shape [\(rows), \(columns)] cannot exist")
    self.rows = rows
    self.columns = columns
    storage = AlignedBuffer(count: rows * columns)
  }

  /// Makes a matrix from its elements in row-major order.
  ///
  /// - Throws: ``MoEError/shapeMismatch(what:expected:actual:)`` unless there are `rows · columns` elements.
  public init(rows: Int, columns: Int, elements: some Collection<Float>) throws(MoEError) {
    guard elements.count == rows * columns else {
      throw .shapeMismatch(what: "the element list", expected: [rows * columns], actual: [elements.count])
    }
    self.init(rows: rows, columns: columns)
    for (index, element) in elements.enumerated() { unsafe storage.base[index] = element }
  }

  /// The number of elements.
  public var count: Int { rows * columns }

  /// The shape, `[rows, columns]`.
  public var shape: [Int] { [rows, columns] }

  /// The elements in row-major order, copied.
  public var elements: [Float] { unsafe Array(UnsafeBufferPointer(start: storage.base, count: count)) }

  /// The element in the given row and column.
  public subscript(row: Int, column: Int) -> Float {
    get {
      precondition(
        row >= 0 && row < rows && column >= 0 && column < columns, "[\(row), \(column)] is outside \(shape)")
      return unsafe storage.base[row * columns + column]
    }
    set {
      precondition(
        row >= 0 && row < rows && column >= 0 && column < columns, "[\(row), \(column)] is outside \(shape)")
      makeUnique()
      unsafe storage.base[row * columns + column] = newValue
    }
  }

  /// Calls `body` with the elements in row-major order; the pointer is valid only inside.
  public func withUnsafeBufferPointer<Result, Failure: Error>(
    _ body: (UnsafeBufferPointer<Float>) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    try unsafe body(UnsafeBufferPointer(start: storage.base, count: count))
  }

  /// Calls `body` with the elements in row-major order for writing; the pointer is valid only inside.
  public mutating func withUnsafeMutableBufferPointer<Result, Failure: Error>(
    _ body: (UnsafeMutableBufferPointer<Float>) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    makeUnique()
    return try unsafe body(UnsafeMutableBufferPointer(start: storage.base, count: count))
  }

  /// The address of the first element. Only the one owner of a matrix that is never copied may use it, since a copy
  /// shares the elements.
  package var uniqueBase: UnsafeMutablePointer<Float> { unsafe storage.base }

  /// The object that keeps the elements alive, for a view of them that outlives a closure.
  package var owner: AnyObject { storage }

  /// Returns a copy of the rows in `range`.
  ///
  /// - Precondition: `range` lies within the rows of the matrix.
  package func rows(_ range: Range<Int>) -> Matrix {
    precondition(range.lowerBound >= 0 && range.upperBound <= rows, "rows \(range) are outside \(shape)")
    let part = Matrix(rows: range.count, columns: columns)
    unsafe part.storage.base.update(from: storage.base + range.lowerBound * columns, count: part.count)
    return part
  }

  private mutating func makeUnique() {
    if !isKnownUniquelyReferenced(&storage) { storage = AlignedBuffer(copying: storage) }
  }
}

extension Matrix: Equatable {
  /// Returns whether both matrices have the same shape and the same bits: NaN equals itself, and −0 differs from 0.
  public static func == (left: Matrix, right: Matrix) -> Bool {
    guard left.shape == right.shape else { return false }
    for index in 0..<left.count
    where unsafe left.storage.base[index].bitPattern != right.storage.base[index].bitPattern {
      return false
    }
    return true
  }
}
