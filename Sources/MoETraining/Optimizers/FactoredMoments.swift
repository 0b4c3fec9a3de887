internal import MoE

/// The mean squares of one matrix's gradients: one per row and one per column, or one per element.
///
/// `@unchecked Sendable`: only one thread at a time uses it.
final class FactoredMoments: @unchecked Sendable {
  /// The number, rates and constants of a step that change a matrix.
  struct Update {
    var beta2: Double
    var gradientScale: Double
    var rate: Double
    var keep: Double
    var configuration: OptimizerConfiguration
  }

  /// The parameter's index among those of the optimizer.
  let parameter: Int
  private let tensor: Parameter.Tensor
  private let isFactored: Bool
  private var rows: [Float]
  private var columns: [Float]

  init(_ tensor: Parameter.Tensor, ofParameter parameter: Int) {
    self.parameter = parameter
    self.tensor = tensor
    isFactored = tensor.rows > 1 && tensor.columns > 1
    rows = Array(repeating: 0, count: isFactored ? tensor.rows : tensor.rows * tensor.columns)
    columns = Array(repeating: 0, count: isFactored ? tensor.columns : 0)
  }

  /// The vectors as matrices of one row or one column, for a checkpoint.
  var state: [OptimizerState] {
    if !isFactored {
      return [vector("v", tensor.shape, { self.rows }, { self.rows = $0 })]
    }
    return [
      vector("row", [tensor.rows, 1], { self.rows }, { self.rows = $0 }),
      vector("column", [1, tensor.columns], { self.columns }, { self.columns = $0 }),
    ]
  }

  private func vector(
    _ kind: String, _ shape: [Int], _ read: @escaping () -> [Float], _ write: @escaping ([Float]) -> Void
  ) -> OptimizerState {
    OptimizerState(
      name: "optimizer.\(kind).\(tensor.name)", shape: shape,
      read: { try! Matrix(rows: shape[0], columns: shape[1], elements: read()) },
      write: { write($0.elements) })
  }

  /// Moves the matrix of `parameter` down its gradient.
  func step(_ parameter: Parameter, mean: Memory?, _ update: Update) {
    let gradient = Elements(tensor, in: parameter.gradient, scale: update.gradientScale)
    let values = Elements(tensor, in: parameter.values, scale: 1)
    let means = mean.map { Elements(tensor, in: $0, scale: 1) }
    learn(gradient, update.beta2)
    let factors = factors()
    unsafe (isFactored ? factors.columns : factors.rows).withUnsafeBufferPointer { columnFactors in
      let factor = columnFactors.baseAddress!
      // Returns one over the roots of the mean squares: of a row and of each column; without factors, 1 and that of
      // each element.
      func factorsOfRow(_ row: Int) -> (row: Double, columns: UnsafePointer<Double>) {
        unsafe isFactored ? (factors.rows[row], factor) : (1, factor + row * tensor.columns)
      }
      var (updateSquares, valueSquares) = (0.0, 0.0)
      for row in 0..<tensor.rows {
        let (g, x, scale) = unsafe (gradient.row(row), values.row(row), factorsOfRow(row))
        for column in 0..<tensor.columns {
          let change = unsafe g[column] * scale.row * scale.columns[column]
          updateSquares += change * change
          valueSquares += x[column] * x[column]
        }
      }
      let rate = rate(updateSquares, valueSquares, update)
      let momentum = update.configuration.momentum
      for row in 0..<tensor.rows {
        let (g, x, scale) = unsafe (gradient.row(row), values.row(row), factorsOfRow(row))
        let m = means?.row(row)
        for column in 0..<tensor.columns {
          var change = unsafe rate * (g[column] * scale.row * scale.columns[column])
          if let m {
            change = momentum * m[column] + (1 - momentum) * change
            m.set(column, change)
          }
          x.set(column, update.keep * x[column] - change)
        }
      }
    }
  }

  /// Returns the step size. It is clipped by the root mean square of the update; where the configuration says so, it
  /// is a share of the root mean square of the matrix.
  private func rate(_ updateSquares: Double, _ valueSquares: Double, _ update: Update) -> Double {
    let count = Double(tensor.rows * tensor.columns)
    let settings = update.configuration
    let rate = update.rate / max(1, (updateSquares / count).squareRoot() / settings.updateClip)
    return settings.scalesByParameter
      ? rate * max(Adafactor.floors.parameter, (valueSquares / count).squareRoot()) : rate
  }

  /// Updates the mean squares with the squares of the gradient.
  private func learn(_ gradient: Elements, _ beta2: Double) {
    var rowSums = Array(repeating: 0.0, count: tensor.rows)
    var columnSums = Array(repeating: 0.0, count: isFactored ? tensor.columns : rows.count)
    unsafe columnSums.withUnsafeMutableBufferPointer { sums in
      let sums = sums.baseAddress!
      for row in 0..<tensor.rows {
        let g = gradient.row(row)
        let sumOfColumn = unsafe isFactored ? sums : sums + row * tensor.columns
        var sum = 0.0
        for column in 0..<tensor.columns {
          let square = g[column] * g[column] + Adafactor.floors.gradient
          sum += square
          unsafe sumOfColumn[column] += square
        }
        rowSums[row] = sum
      }
    }
    func mix(_ old: Float, _ sum: Double, _ count: Int) -> Float {
      Float(beta2 * Double(old) + (1 - beta2) * sum / Double(count))
    }
    if !isFactored {
      for index in rows.indices { rows[index] = mix(rows[index], columnSums[index], 1) }
      return
    }
    for index in rows.indices { rows[index] = mix(rows[index], rowSums[index], tensor.columns) }
    for index in columns.indices { columns[index] = mix(columns[index], columnSums[index], tensor.rows) }
  }

  /// Returns one over the root of each mean square, as factors of rows and columns: V = R·C / mean(R).
  private func factors() -> (rows: [Double], columns: [Double]) {
    func root(_ square: Float) -> Double {
      1 / max(Double(square), Double(Float.leastNonzeroMagnitude)).squareRoot()
    }
    if !isFactored { return (rows.map(root), []) }
    let mean = rows.reduce(0) { $0 + Double($1) } / Double(rows.count)
    return (rows.map { root($0) * mean.squareRoot() }, columns.map(root))
  }
}

/// The elements of a matrix, row by row, in any layout in memory.
@safe private struct Elements {
  /// A row, whose elements are at equal distances in memory.
  @safe struct Row {
    let base: UnsafeMutablePointer<Float>
    let step: Int
    let scale: Double

    @inline(__always) subscript(column: Int) -> Double { unsafe scale * Double(base[column * step]) }

    @inline(__always) func set(_ column: Int, _ value: Double) {
      unsafe base[column * step] = Float(value)
    }
  }

  private let base: UnsafeMutablePointer<Float>
  private let tensor: Parameter.Tensor
  private let scale: Double

  init(_ tensor: Parameter.Tensor, in memory: Memory, scale: Double) {
    unsafe base = memory.floats
    self.tensor = tensor
    self.scale = scale
  }

  func row(_ row: Int) -> Row {
    unsafe Row(base: base + tensor.offset(ofRow: row), step: tensor.columnStep, scale: scale)
  }
}
