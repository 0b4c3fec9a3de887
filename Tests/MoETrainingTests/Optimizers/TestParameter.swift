import MoE
import MoETraining

/// How the same matrix may lie in memory.
enum Layout: CaseIterable {
  case rows, panels, gateAndUpPanels
}

extension Parameter {
  /// A parameter with a matrix in a layout; in the last one it shares its memory with another that is zero.
  static func test(
    _ matrix: Matrix, _ layout: Layout = .rows, name: String = "matrix", group: Group = .other,
    decays: Bool = true
  ) throws -> Parameter {
    if layout == .rows && group == .other { return try Parameter(name: name, decays: decays, matrix: matrix) }
    let place: PanelPlace? =
      switch layout {
      case .rows: nil
      case .panels: PanelPlace()
      case .gateAndUpPanels: PanelPlace(firstPanel: 1, step: 2)
      }
    let panels = (matrix.rows + 15) / 16 * (place?.step ?? 1)
    let count = place == nil ? matrix.count : panels * ((matrix.columns + 31) / 32 * 32) * 16
    let parameter = Parameter(
      name: name, group: group, decays: decays,
      tensors: [
        Tensor(
          name: name, rows: matrix.rows, columns: matrix.columns, layout: place.map { .panels($0) } ?? .rows()
        )
      ],
      count: count,
      values: try Memory(zeroed: count * 4), gradient: try Memory(zeroed: count * 4))
    parameter.set(matrix, parameter.tensors[0], in: parameter.values)
    return parameter
  }

  /// Its first matrix.
  var matrix: Matrix { matrix(tensors[0], in: values) }

  /// Sets the gradient of its first matrix.
  func setGradient(_ matrix: Matrix) { set(matrix, tensors[0], in: gradient) }

  /// Whether all of its memory but the first matrix is zero.
  var paddingIsZero: Bool {
    let total = (0..<count).count { unsafe values.floats[$0] != 0 }
    return total == matrix.elements.count { $0 != 0 }
  }
}

/// A random matrix.
func randomMatrix(_ rows: Int, _ columns: Int, seed: UInt64, deviation: Float = 1) -> Matrix {
  var generator = SeededGenerator(seed: seed)
  return .normal(rows: rows, columns: columns, deviation: deviation, using: &generator)
}
