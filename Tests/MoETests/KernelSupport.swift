import CKernels
import MoE
import MoECore
import TestSupport
import Testing

/// Numbers of threads: only the caller, one more thread, more than this machine has, and more than there are tasks.
let threadCounts: [Int32] = [1, 2, 3, 7]

extension InstructionSet {
  /// The C value.
  var machine: moe_isa { moe_isa(rawValue: UInt32(Self.allCases.firstIndex(of: self)!)) }

  /// Returns an execution with `count` threads.
  func threads(_ count: Int32) -> moe_execution { moe_execution(isa: machine, threads: count) }

  /// The number of rows of a tile, from the size of a tile of one row.
  var tileRows: Int { moe_rows_bytes(machine, MOE_FLOAT32, 1, 1, 32) / (32 * 4) }

  /// Returns whether row tiles of `type` hold bfloat16. Otherwise they hold floats, rounded to bfloat16 or not.
  func keepsNarrowRows(_ type: moe_format) -> Bool { type == MOE_BFLOAT16 && machine == MOE_AVX512BF16 }
}

/// Elements of any trivial type between fences. A kernel may read and write only these elements.
@safe final class Fenced<Element: BitwiseCopyable> {
  let count: Int
  private let buffer: FencedBuffer

  /// Makes unwritten elements.
  init(count: Int) {
    self.count = count
    let bytes = count * MemoryLayout<Element>.stride
    buffer = FencedBuffer(rows: 1, columns: (bytes + 3) / 4)
  }

  convenience init(_ elements: [Element]) {
    self.init(count: elements.count)
    for (index, element) in elements.enumerated() { unsafe base[index] = element }
  }

  /// Valid as long as the buffer is.
  var base: UnsafeMutablePointer<Element> {
    unsafe UnsafeMutableRawPointer(buffer.base).assumingMemoryBound(to: Element.self)
  }

  var raw: UnsafeMutableRawPointer { unsafe UnsafeMutableRawPointer(buffer.base) }

  var elements: [Element] { unsafe Array(UnsafeBufferPointer(start: base, count: count)) }

  var fencesIntact: Bool { buffer.fencesIntact }

  /// The number of four-byte words that were never stored.
  var unwrittenCount: Int { buffer.unwrittenCount }
}

extension Fenced<UInt8> {
  /// Returns scratch for a kernel. The size comes from the kernel's `_bytes` function.
  static func scratch(_ bytes: Int) -> Fenced<UInt8> { Fenced(count: bytes) }
}

/// Returns `matrix` [N, K] packed into ⌈N/16⌉ panels.
func packed(_ matrix: Matrix, _ type: moe_format, threads: Int32 = 1) -> Fenced<UInt8> {
  let panels = (matrix.rows + 15) / 16
  let result = Fenced<UInt8>(count: moe_panels_bytes(type, Int64(panels), Int64(matrix.columns)))
  _ = unsafe matrix.withUnsafeBufferPointer {
    unsafe moe_pack_panels(
      InstructionSet.scalar.threads(threads), type, $0.baseAddress, Int64(matrix.rows),
      Int64(matrix.columns), result.raw, 1)
  }
  return result
}

/// Returns bit patterns, so that NaN equals itself and −0 differs from 0.
func bits(_ values: [Float]) -> [UInt32] { values.map(\.bitPattern) }

extension Float {
  /// The value as a `bf16` operand of the kernels: the nearest bfloat16, ties to even, widened.
  var nearestBFloat16: Float {
    if isNaN { return Float(bitPattern: bitPattern & 0xFFFF_0000 | 0x40_0000) }
    return Float(bitPattern: (bitPattern + 0x7FFF + (bitPattern >> 16 & 1)) & 0xFFFF_0000)
  }
}
