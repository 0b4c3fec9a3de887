/// Storage for floats, aligned to a cache line and filled with zeros at first.
///
/// `@unchecked Sendable`: the storage is written only through a `Matrix` that holds the one reference to it.
@safe final class AlignedBuffer: @unchecked Sendable {
  static let alignment = 64
  let base: UnsafeMutablePointer<Float>
  let count: Int

  init(count: Int) {
    let bytes = UnsafeMutableRawPointer.allocate(
      byteCount: max(count, 1) * MemoryLayout<Float>.stride, alignment: Self.alignment)
    unsafe base = bytes.bindMemory(to: Float.self, capacity: max(count, 1))
    unsafe base.initialize(repeating: 0, count: max(count, 1))
    self.count = count
  }

  convenience init(copying other: AlignedBuffer) {
    self.init(count: other.count)
    unsafe base.update(from: other.base, count: other.count)
  }

  deinit { unsafe base.deallocate() }
}
