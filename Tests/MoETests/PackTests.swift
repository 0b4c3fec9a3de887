import CKernels
import MoE
import MoECore
import MoEReference
import TestSupport
import Testing

/// `moe_pack_panels` against its definition, bit by bit.
@Suite struct PackTests {
  /// Values that are special cases of rounding to bfloat16: halfway cases to an even and to an odd neighbour, one bit
  /// beside them, carries into the exponent and into infinity, denormals, NaN.
  static let specials: [Float] =
    [
      0, -0, 1, -1, .infinity, -.infinity, .nan, .leastNonzeroMagnitude, -.leastNormalMagnitude,
      .greatestFiniteMagnitude, -.greatestFiniteMagnitude,
    ]
    + [
      0x3F80_8000, 0x3F81_8000, 0x3F80_8001, 0x3F80_7FFF, 0x3FFF_8000, 0x3FFF_7FFF, 0x7F7F_8000, 0x7F7F_7FFF,
      0x0000_8000, 0x0000_8001, 0x0001_8000, 0x007F_8000, 0x8000_7FFF, 0xFF7F_FFFF, 0x7F80_0001, 0xFFC1_2345,
    ].map { Float(bitPattern: $0) }

  private func matrix(_ rows: Int, _ columns: Int, seed: UInt64) throws -> Matrix {
    var generator = SeededGenerator(seed: seed)
    let elements = (0..<rows * columns).map { _ in
      generator.next() % 3 == 0 ? generator.pick(Self.specials) : generator.normal()
    }
    return try Matrix(rows: rows, columns: columns, elements: elements)
  }

  @Test(
    arguments: [1, 15, 16, 17, 32, 33, 100], [1, 2, 15, 16, 17, 31, 32, 33, 65])
  func panelsAreTheDefinition(_ n: Int, _ k: Int) throws {
    let w = try matrix(n, k, seed: UInt64(n * 1000 + k))
    let source = FencedBuffer(w, misalignment: 1)
    let padded = (k + 31) / 32 * 32
    let panels = (n + 15) / 16
    for type in [MOE_FLOAT32, MOE_BFLOAT16] {
      for threads in threadCounts {
        let target = Fenced<UInt8>(count: moe_panels_bytes(type, Int64(panels), Int64(k)))
        unsafe moe_pack_panels(
          InstructionSet.scalar.threads(threads), type, source.base, Int64(n), Int64(k), target.raw, 1)
        #expect(target.fencesIntact)
        for index in 0..<panels * padded * 16 {
          let (panel, depth, column) = (index / (padded * 16), index / 16 % padded, index % 16)
          let row = panel * 16 + column
          let value = row < n && depth < k ? w[row, depth] : 0
          let found = element(of: target, type, panel: panel, depth: depth, column: column, padded: padded)
          let expected = type == MOE_FLOAT32 ? value.bitPattern : value.nearestBFloat16.bitPattern
          try #require(found == expected, "panel \(panel), k \(depth), column \(column) of \(n)×\(k)")
        }
      }
    }
    withExtendedLifetime(source) {}
  }

  @Test(arguments: [1, 16, 33, 100], [1, 31, 32, 65])
  func narrowedPanelsAreThosePackedNarrow(_ n: Int, _ k: Int) throws {
    let w = try matrix(n, k, seed: UInt64(n * 1000 + k))
    let panels = Int64((n + 15) / 16)
    let wide = packed(w, MOE_FLOAT32)
    for threads in threadCounts {
      let narrow = Fenced<UInt8>(count: moe_panels_bytes(MOE_BFLOAT16, panels, Int64(k)))
      unsafe moe_narrow_panels(
        InstructionSet.scalar.threads(threads), MOE_BFLOAT16, wide.raw.assumingMemoryBound(to: Float.self),
        panels, Int64(k), narrow.raw)
      #expect(narrow.fencesIntact && wide.fencesIntact)
      #expect(narrow.elements == packed(w, MOE_BFLOAT16).elements)
    }
  }

  /// Returns an element of packed panels, as the bits of a float.
  private func element(
    of panels: Fenced<UInt8>, _ type: moe_format, panel: Int, depth: Int, column: Int, padded: Int
  ) -> UInt32 {
    if type == MOE_FLOAT32 {
      let offset = (panel * padded + depth) * 16 + column
      return unsafe panels.raw.load(fromByteOffset: offset * 4, as: UInt32.self)
    }
    let offset = panel * padded * 16 + depth / 2 * 32 + column * 2 + depth % 2
    return unsafe UInt32(panels.raw.load(fromByteOffset: offset * 2, as: UInt16.self)) << 16
  }

  /// `nearestBFloat16` equals the oracle's rounding, so the tests above do not depend on a rounding of their own.
  @Test func roundingIsTheOracles() {
    for value in Self.specials where !value.isNaN {
      #expect(Double(value.nearestBFloat16) == Reference.roundedToBFloat16(Double(value)), "\(value)")
    }
  }

  /// Gate and up panels alternate by a stride of 2. The panels between keep their bits.
  @Test(arguments: [MOE_FLOAT32, MOE_BFLOAT16])
  func strideLeavesPanelsBetweenAlone(_ type: moe_format) throws {
    let (gate, up) = (try matrix(33, 40, seed: 1), try matrix(33, 40, seed: 2))
    let bytes = moe_panels_bytes(type, 1, 40)
    let pair = Fenced<UInt8>(count: 6 * bytes)
    let ex = InstructionSet.scalar.threads(2)
    _ = unsafe gate.withUnsafeBufferPointer {
      unsafe moe_pack_panels(ex, type, $0.baseAddress, 33, 40, pair.raw, 2)
    }
    let untouched = UInt8(truncatingIfNeeded: FencedBuffer.fillingBits)
    for panel in [1, 3, 5] { #expect(pair.elements[panel * bytes] == untouched) }
    _ = unsafe up.withUnsafeBufferPointer {
      unsafe moe_pack_panels(ex, type, $0.baseAddress, 33, 40, pair.raw + bytes, 2)
    }
    #expect(pair.fencesIntact)
    let (left, right) = (packed(gate, type).elements, packed(up, type).elements)
    for panel in 0..<3 {
      let whole = panel * bytes..<(panel + 1) * bytes
      #expect(Array(pair.elements[2 * panel * bytes..<(2 * panel + 1) * bytes]) == Array(left[whole]))
      #expect(Array(pair.elements[(2 * panel + 1) * bytes..<(2 * panel + 2) * bytes]) == Array(right[whole]))
    }
  }
}
