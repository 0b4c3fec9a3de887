import MoECore

/// The microscaling format of gpt-oss (OCP Microscaling Formats 1.0, §5): 32 floats of four bits share a power of two.
///
/// A byte holds two floats, the earlier one in its low half. Four bits are a sign and one of 0, ½, 1, 1½, 2, 3, 4, 6. The
/// shared scale s is the factor 2^(s−127).
enum MXFP4 {
  /// Elements in a block.
  static let blockSize = 32
  /// Bytes of a block without its scale.
  static let blockBytes = 16

  /// Every value: entry s·16 + code.
  private static let values: [Float] = {
    let magnitudes: [Double] = [0, 0.5, 1, 1.5, 2, 3, 4, 6]
    return (0..<256).flatMap { scale in
      let power = Double(sign: .plus, exponent: scale - 127, significand: 1)
      return (magnitudes + magnitudes.map { -$0 }).map { Float($0 * power) }
    }
  }()

  /// Converts the blocks of `view` to a matrix with 32 columns per block.
  ///
  /// - Precondition: `scales` holds `view.end` bytes and `blocks` 16 times as many.
  @unsafe static func matrix(
    blocks: UnsafeRawBufferPointer, scales: [UInt8], _ view: StridedView
  ) -> Matrix {
    var matrix = Matrix(rows: view.rows, columns: view.columns * blockSize)
    unsafe matrix.withUnsafeMutableBufferPointer { target in
      var output = 0
      for row in 0..<view.rows {
        for column in 0..<view.columns {
          let block = view.start + row * view.rowStride + column * view.columnStride
          let base = Int(scales[block]) * 16
          for byte in 0..<blockBytes {
            let pair = Int(unsafe blocks[block * blockBytes + byte])
            unsafe target[output] = values[base + pair & 15]
            unsafe target[output + 1] = values[base + pair >> 4]
            output += 2
          }
        }
      }
    }
    return matrix
  }
}
