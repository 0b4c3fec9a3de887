// Conversion of stored elements to Float. All three types convert exactly, NaN and infinity included. Elements need not
// be aligned.

private protocol StoredFloat {
  associatedtype Bits: FixedWidthInteger & UnsignedInteger & BitwiseCopyable
  static func float(_ bits: Bits) -> Float
}

private enum StoredFloat32: StoredFloat {
  @inline(__always) static func float(_ bits: UInt32) -> Float { Float(bitPattern: bits) }
}

private enum StoredBFloat16: StoredFloat {
  @inline(__always) static func float(_ bits: UInt16) -> Float { Float(bitPattern: UInt32(bits) << 16) }
}

private enum StoredFloat16: StoredFloat {
  /// Converts half precision without a branch, so that the loop vectorises.
  ///
  /// The magnitude's bits, moved into place, are the value times 2^−112, also for subnormals. Infinity and NaN get the
  /// other bits of their exponent instead.
  @inline(__always) static func float(_ bits: UInt16) -> Float {
    let magnitude = UInt32(bits & 0x7FFF) << 13
    let finite = (Float(bitPattern: magnitude) * 0x1p112).bitPattern
    let special = magnitude | 0x7F80_0000
    return Float(bitPattern: (bits & 0x7C00 == 0x7C00 ? special : finite) | UInt32(bits & 0x8000) << 16)
  }
}

/// Converts the elements of `view` to `target`, row by row.
///
/// - Precondition: `source` holds `view.end` elements and `target` rows · columns.
@unsafe func decode(
  _ source: UnsafeRawBufferPointer, as type: ElementType, _ view: StridedView,
  into target: UnsafeMutableBufferPointer<Float>
) {
  guard view.rows > 0, view.columns > 0, let source = source.baseAddress, let target = target.baseAddress
  else {
    return
  }
  switch type {
  case .float32: unsafe decode(StoredFloat32.self, source, view, target)
  case .float16: unsafe decode(StoredFloat16.self, source, view, target)
  case .bfloat16: unsafe decode(StoredBFloat16.self, source, view, target)
  default: preconditionFailure("\(type) is not converted")
  }
}

@unsafe private func decode<Stored: StoredFloat>(
  _: Stored.Type, _ source: UnsafeRawPointer, _ view: StridedView, _ target: UnsafeMutablePointer<Float>
) {
  let size = MemoryLayout<Stored.Bits>.size
  if view.columnStride == 1 {
    for row in 0..<view.rows {
      let from = unsafe source + (view.start + row * view.rowStride) * size
      let to = unsafe target + row * view.columns
      for column in 0..<view.columns {
        unsafe to[column] = Stored.float(
          from.loadUnaligned(fromByteOffset: column * size, as: Stored.Bits.self))
      }
    }
    return
  }
  // Transposes in tiles: the lines of source and target that a tile touches stay in the cache.
  let tile = 32
  for top in stride(from: 0, to: view.rows, by: tile) {
    for left in stride(from: 0, to: view.columns, by: tile) {
      for row in top..<min(top + tile, view.rows) {
        for column in left..<min(left + tile, view.columns) {
          let index = view.start + row * view.rowStride + column * view.columnStride
          unsafe target[row * view.columns + column] = Stored.float(
            source.loadUnaligned(fromByteOffset: index * size, as: Stored.Bits.self))
        }
      }
    }
  }
}

/// Returns the little-endian integers of `source`.
@unsafe func decodeIntegers(_ source: UnsafeRawBufferPointer) -> [Int32] {
  (0..<source.count / 4).map { unsafe source.loadUnaligned(fromByteOffset: $0 * 4, as: Int32.self) }
}
