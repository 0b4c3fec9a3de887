internal import CKernels
package import MoECore

/// Memory of the kernels' alignment, in large pages where the system has them.
///
/// `@unchecked Sendable`: the compiler does not check who writes these bytes. Only these owners write them:
/// - ``PackedExperts`` and ``PackedRouter`` write parameters while they are made. Later only the one task that trains
///   a layer writes them (its optimizer, ``MoELayer/narrow(into:execution:)`` and ``MoELayer/selectionBias``), and only
///   between passes of the layers that share them.
/// - ``Workspace`` and ``Recording`` own the memory of their passes. They are not copyable, so one task writes at a
///   time.
/// - ``MoEGradients`` and ``Parameter`` own sums of gradients. They are not `Sendable`.
@safe package final class Memory: @unchecked Sendable {
  package let base: UnsafeMutableRawPointer
  package let byteCount: Int

  package init(byteCount: Int) throws(MoEError) {
    guard byteCount >= 0, let memory = unsafe moe_allocate(byteCount) else {
      throw .outOfMemory(bytes: byteCount)
    }
    unsafe base = memory
    self.byteCount = byteCount
  }

  /// Makes memory of `values`, followed by zeros up to `count`.
  convenience init(_ values: [Float], paddedTo count: Int) throws(MoEError) {
    try self.init(byteCount: max(count, values.count) * MemoryLayout<Float>.stride)
    let floats = unsafe self.floats
    for (index, value) in values.enumerated() { unsafe floats[index] = value }
    for index in values.count..<max(count, values.count) { unsafe floats[index] = 0 }
  }

  deinit { unsafe moe_free(base) }

  package var floats: UnsafeMutablePointer<Float> { unsafe base.assumingMemoryBound(to: Float.self) }
}

extension Memory {
  package convenience init(zeroed byteCount: Int) throws(MoEError) {
    try self.init(byteCount: byteCount)
    zero()
  }

  package func zero() { unsafe base.initializeMemory(as: UInt8.self, repeating: 0, count: byteCount) }

  /// Returns a copy of `count` floats from the float `start` on.
  func floats(at start: Int, count: Int) -> [Float] {
    unsafe Array(UnsafeBufferPointer(start: floats + start, count: count))
  }
}

/// Memory that is reused, and grows only when a request is larger than every earlier one.
///
/// Scratch gives its contents no meaning. A stage that writes to it returns a view of the result, and a later stage
/// that reads the result takes that view. The next stage that reserves from the same scratch overwrites it.
package struct Scratch {
  private var memory: Memory?

  package init() {}

  /// Reserves `count` elements with undefined contents.
  package mutating func reserve<Element: BitwiseCopyable>(
    _ count: Int, of type: Element.Type
  ) throws(MoEError) -> MemoryView<Element> {
    MemoryView(try reserve(bytes: count * MemoryLayout<Element>.stride), count: count)
  }

  /// Reserves at least `bytes` bytes with undefined contents.
  package mutating func reserve(bytes: Int) throws(MoEError) -> Memory {
    if let memory, memory.byteCount >= bytes { return memory }
    memory = nil
    let grown = try Memory(byteCount: bytes)
    memory = grown
    return grown
  }
}
