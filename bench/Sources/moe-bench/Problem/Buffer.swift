import CKernels
import MoE

/// Zeroed memory of the kernels' alignment; zeroing also makes the system hand out the pages.
final class Buffer<Element: BitwiseCopyable> {
  let base: UnsafeMutablePointer<Element>
  let count: Int

  init(_ count: Int) throws {
    let bytes = max(count, 1) * MemoryLayout<Element>.stride
    guard let memory = moe_allocate(bytes) else { throw MoEError.outOfMemory(bytes: bytes) }
    memory.initializeMemory(as: UInt8.self, repeating: 0, count: bytes)
    base = memory.bindMemory(to: Element.self, capacity: max(count, 1))
    self.count = count
  }

  deinit { moe_free(base) }

  subscript(index: Int) -> Element {
    get { base[index] }
    set { base[index] = newValue }
  }

  /// The elements of `range`.
  func elements(_ range: Range<Int>) -> [Element] { range.map { base[$0] } }
}

extension Buffer<Float> {
  /// Fills the buffer with nearly normal values.
  func fillNormal(seed: UInt64, deviation: Float = 1) {
    var generator = SeededGenerator(seed: seed)
    for index in 0..<count { base[index] = generator.normal() * deviation }
  }
}
