internal import CKernels
package import MoECore

/// The place of a matrix [N, K] among panels of 16 rows: element (n, k) is in panel n/16, at k·16 + n%16.
package struct PanelPlace: Sendable, Equatable {
  /// The matrix's first panel, and the distance from one of its panels to the next.
  package var firstPanel: Int
  package var step: Int

  package init(firstPanel: Int = 0, step: Int = 1) {
    self.firstPanel = firstPanel
    self.step = step
  }

  /// Returns the offset in floats of element (row, 0). Element (row, k) is k·16 floats further on.
  package func offset(row: Int, columns: Int) -> Int {
    (firstPanel + row / MOE_PANEL * step) * Kernels.padded(columns) * MOE_PANEL + row % MOE_PANEL
  }
}

extension Memory {
  /// Returns a copy of the matrix [rows, columns] at `place`.
  package func matrix(_ place: PanelPlace, rows: Int, columns: Int) -> Matrix {
    var matrix = Matrix(rows: rows, columns: columns)
    let source = unsafe floats
    unsafe matrix.withUnsafeMutableBufferPointer { elements in
      for row in 0..<rows {
        let start = place.offset(row: row, columns: columns)
        for column in 0..<columns {
          unsafe elements[row * columns + column] = source[start + column * MOE_PANEL]
        }
      }
    }
    return matrix
  }
}
