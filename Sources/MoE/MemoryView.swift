package import MoECore

/// Elements that one stage of a pass writes and the next one reads, in memory that the view keeps alive.
///
/// A view is a place, not a copy: it shows the values that were last written there. Views of an activation's matrix
/// live no longer than the call that was given the matrix.
@safe package struct MemoryView<Element: BitwiseCopyable> {
  package let base: UnsafeMutablePointer<Element>
  package let count: Int
  private let owner: AnyObject

  /// Makes a view of the elements at `base`, which `owner` keeps alive.
  @unsafe package init(_ base: UnsafeMutablePointer<Element>, count: Int, of owner: AnyObject) {
    unsafe self.base = unsafe base
    self.count = count
    self.owner = owner
  }

  /// Makes a view of the first `count` elements of `memory`.
  init(_ memory: Memory, count: Int) {
    precondition(
      count * MemoryLayout<Element>.stride <= memory.byteCount,
      "\(count) elements are more than \(memory.byteCount) bytes hold")
    unsafe self.init(memory.base.assumingMemoryBound(to: Element.self), count: count, of: memory)
  }

  package subscript(index: Int) -> Element {
    get {
      precondition(index >= 0 && index < count, "element \(index) is outside 0..<\(count)")
      return unsafe base[index]
    }
    nonmutating set {
      precondition(index >= 0 && index < count, "element \(index) is outside 0..<\(count)")
      unsafe base[index] = newValue
    }
  }

  /// The elements, for reading.
  package var buffer: UnsafeBufferPointer<Element> { unsafe UnsafeBufferPointer(start: base, count: count) }

  /// A copy of the elements.
  package var elements: [Element] { unsafe Array(buffer) }

  /// Copies the elements to `array`, into the array's own storage if that is large enough.
  func copy(to array: inout [Element]) { copy(0..<count, to: &array) }

  /// Copies the elements in `range` to `array`, into the array's own storage if that is large enough.
  func copy(_ range: Range<Int>, to array: inout [Element]) {
    precondition(range.lowerBound >= 0 && range.upperBound <= count, "\(range) is outside 0..<\(count)")
    array.removeAll(keepingCapacity: true)
    unsafe array.append(contentsOf: UnsafeBufferPointer(rebasing: buffer[range]))
  }
}

extension MemoryView {
  /// Sets every element to `value`.
  func fill(_ value: Element) { unsafe base.update(repeating: value, count: count) }

  /// Makes a view of a copy of the elements of an array.
  package init(copying array: [Element]) throws(MoEError) {
    self.init(try Memory(byteCount: array.count * MemoryLayout<Element>.stride), count: array.count)
    update(from: array)
  }

  /// Overwrites the elements with those of a view of the same size.
  func update(from other: MemoryView) {
    precondition(other.count == count, "\(other.count) elements for \(count)")
    unsafe base.update(from: other.base, count: count)
  }

  /// Overwrites the first elements with those of an array.
  package func update(from array: [Element]) {
    precondition(array.count <= count, "\(array.count) elements do not fit in \(count)")
    unsafe array.withUnsafeBufferPointer { elements in
      if let first = elements.baseAddress { unsafe base.update(from: first, count: elements.count) }
    }
  }
}

extension MemoryView<Float> {
  /// Makes a view of the elements of a matrix, for reading.
  package init(_ matrix: Matrix) {
    unsafe self = matrix.withUnsafeBufferPointer {
      unsafe MemoryView(UnsafeMutablePointer(mutating: $0.baseAddress!), count: $0.count, of: matrix.owner)
    }
  }

  /// Makes a view of the elements of a matrix, for writing.
  package init(writing matrix: inout Matrix) {
    let base = unsafe matrix.withUnsafeMutableBufferPointer { $0.baseAddress! }
    unsafe self.init(base, count: matrix.count, of: matrix.owner)
  }
}
