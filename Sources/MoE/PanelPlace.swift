internal import CKernels
package import MoECore

/// Where a matrix [N, K] lies among panels of 16 rows: element (n, k) of panel n/16 is at k·16 + n%16.
package struct PanelPlace: Sendable, Equatable {
  /// Its first panel, and the distance from one of its panels to the next.
  package var firstPanel: Int
  package var step: Int

  package init(firstPanel: Int = 0, step: Int = 1) {
    self.firstPanel = firstPanel
    self.step = step
  }

  /// The element (0, column) of each panel begins here; row r of the panel is r floats on.
  package func offset(row: Int, columns: Int) -> Int {
    (firstPanel + row / MOE_PANEL * step) * Kernels.padded(columns) * MOE_PANEL + row % MOE_PANEL
  }
}

extension Memory {
  /// The matrix [rows, columns] at `place`, copied.
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
