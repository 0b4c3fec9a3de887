internal import CKernels
package import MoECore

/// Memory of the kernels' alignment, in large pages where the system has them.
///
/// `@unchecked Sendable`: packed weights are written before they are shared, and a workspace, which is not
/// copyable, is the one owner of its scratch.
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

  /// Floats, followed by zeros up to `count`.
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

  /// Floats from a place on, copied.
  func floats(at start: Int, count: Int) -> [Float] {
    unsafe Array(UnsafeBufferPointer(start: floats + start, count: count))
  }
}

/// Memory that grows when more is asked for than ever before and is otherwise reused.
@safe package struct Scratch {
  private var memory: Memory?

  package init() {}

  /// At least `count` elements, without a defined content.
  package mutating func reserve<Element: BitwiseCopyable>(
    _ count: Int, of type: Element.Type
  ) throws(MoEError) -> UnsafeMutablePointer<Element> {
    unsafe try reserve(bytes: count * MemoryLayout<Element>.stride).assumingMemoryBound(to: type)
  }

  /// At least `bytes` bytes, without a defined content.
  package mutating func reserve(bytes: Int) throws(MoEError) -> UnsafeMutableRawPointer {
    if let memory, memory.byteCount >= bytes { return unsafe memory.base }
    memory = nil
    let grown = try Memory(byteCount: bytes)
    memory = grown
    return unsafe grown.base
  }
}
