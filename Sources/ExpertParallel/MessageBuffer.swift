internal import MoE

/// Memory that is sent from and received into, aligned to a cache line.
///
/// A request retains its buffers until it has completed. Until then the caller must not write to a buffer that is being
/// sent, and must not touch one that is being received into.
@safe public final class MessageBuffer {
  /// The number of bytes.
  public let byteCount: Int
  let base: UnsafeMutableRawPointer
  private let owner: AnyObject?

  /// Makes a buffer of zeros.
  ///
  /// - Precondition: `byteCount` is at least 0.
  public init(byteCount: Int) {
    precondition(byteCount >= 0, "a buffer of \(byteCount) bytes cannot exist")
    self.byteCount = byteCount
    unsafe base = .allocate(byteCount: max(byteCount, 1), alignment: 64)
    unsafe base.initializeMemory(as: UInt8.self, repeating: 0, count: max(byteCount, 1))
    owner = nil
  }

  /// Copies the elements of an array.
  public init<Element: BitwiseCopyable>(_ elements: [Element]) {
    byteCount = elements.count * MemoryLayout<Element>.stride
    unsafe base = .allocate(byteCount: max(byteCount, 1), alignment: 64)
    owner = nil
    unsafe elements.withUnsafeBytes { bytes in
      if let source = bytes.baseAddress { unsafe base.copyMemory(from: source, byteCount: bytes.count) }
    }
  }

  /// Uses memory that another object owns; the buffer retains the owner, and nothing is copied.
  package init(_ memory: UnsafeMutableRawBufferPointer, of owner: AnyObject) {
    byteCount = memory.count
    unsafe base = memory.baseAddress ?? UnsafeMutableRawPointer(bitPattern: 64)!
    self.owner = owner
  }

  deinit { if owner == nil { unsafe base.deallocate() } }

  /// Calls `body` with the bytes; the pointer is valid only inside.
  package func withUnsafeMutableBytes<Result, Failure: Error>(
    _ body: (UnsafeMutableRawBufferPointer) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    try unsafe body(UnsafeMutableRawBufferPointer(start: base, count: byteCount))
  }

  /// Copies the content into an array; bytes after the last whole element are left out.
  public func elements<Element: BitwiseCopyable>(of type: Element.Type) -> [Element] {
    elements(of: type, at: 0, count: byteCount / MemoryLayout<Element>.stride)
  }

  /// Copies `count` elements from a byte on into an array.
  func elements<Element: BitwiseCopyable>(of type: Element.Type, at byte: Int, count: Int) -> [Element] {
    unsafe Array(
      UnsafeBufferPointer(start: (base + byte).assumingMemoryBound(to: type), count: count))
  }

  /// The content as floats, valid as long as the buffer lives.
  var floats: UnsafeMutablePointer<Float> { unsafe base.assumingMemoryBound(to: Float.self) }

  /// The content as floats, which the view keeps alive.
  var view: MemoryView<Float> {
    unsafe MemoryView(floats, count: byteCount / MemoryLayout<Float>.stride, of: self)
  }
}
