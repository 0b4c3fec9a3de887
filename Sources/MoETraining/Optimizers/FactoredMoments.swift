internal import MoE

/// The mean squares of one matrix's gradients: of its rows and of its columns, or of every element.
///
/// `@unchecked Sendable`: one thread at a time has it.
final class FactoredMoments: @unchecked Sendable {
  /// What a step of a matrix is told.
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

  /// The vectors as matrices of one row or column.
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
    learn(gradient, update.beta2)
    let factors = factors()
    func direction(_ row: Int, _ column: Int) -> Double {
      let factor =
        isFactored
        ? factors.rows[row] * factors.columns[column] : factors.rows[row * tensor.columns + column]
      return gradient[row, column] * factor
    }
    var (updateSquares, valueSquares) = (0.0, 0.0)
    for row in 0..<tensor.rows {
      for column in 0..<tensor.columns {
        let (change, value) = (direction(row, column), values[row, column])
        updateSquares += change * change
        valueSquares += value * value
      }
    }
    let count = Double(tensor.rows * tensor.columns)
    let settings = update.configuration
    var rate = update.rate / max(1, (updateSquares / count).squareRoot() / settings.updateClip)
    if settings.scalesByParameter {
      rate *= max(Adafactor.floors.parameter, (valueSquares / count).squareRoot())
    }
    let means = mean.map { Elements(tensor, in: $0, scale: 1) }
    for row in 0..<tensor.rows {
      for column in 0..<tensor.columns {
        var change = rate * direction(row, column)
        if let means {
          change = settings.momentum * means[row, column] + (1 - settings.momentum) * change
          means.set(row, column, change)
        }
        values.set(row, column, update.keep * values[row, column] - change)
      }
    }
  }

  /// Takes the squares of the gradient into the means.
  private func learn(_ gradient: Elements, _ beta2: Double) {
    var rowSums = Array(repeating: 0.0, count: rows.count)
    var columnSums = Array(repeating: 0.0, count: columns.count)
    for row in 0..<tensor.rows {
      for column in 0..<tensor.columns {
        let element = gradient[row, column]
        let square = element * element + Adafactor.floors.gradient
        if isFactored {
          rowSums[row] += square
          columnSums[column] += square
        } else {
          rowSums[row * tensor.columns + column] = square
        }
      }
    }
    func mix(_ old: Float, _ sum: Double, _ count: Int) -> Float {
      Float(beta2 * Double(old) + (1 - beta2) * sum / Double(count))
    }
    for index in rows.indices {
      rows[index] = mix(rows[index], rowSums[index], isFactored ? tensor.columns : 1)
    }
    for index in columns.indices { columns[index] = mix(columns[index], columnSums[index], tensor.rows) }
  }

  /// One over the root of each mean square, as factors of rows and columns: V = R·C / mean(R).
  private func factors() -> (rows: [Double], columns: [Double]) {
    func root(_ square: Float) -> Double {
      1 / max(Double(square), Double(Float.leastNonzeroMagnitude)).squareRoot()
    }
    if !isFactored { return (rows.map(root), []) }
    let mean = rows.reduce(0) { $0 + Double($1) } / Double(rows.count)
    return (rows.map { root($0) * mean.squareRoot() }, columns.map(root))
  }
}

/// The elements of a matrix wherever they lie.
@safe private struct Elements {
  private let base: UnsafeMutablePointer<Float>
  private let columns: Int
  private let place: PanelPlace?
  private let step: Int
  private let scale: Double

  init(_ tensor: Parameter.Tensor, in memory: Memory, scale: Double) {
    unsafe base = memory.floats
    columns = tensor.columns
    place = tensor.place
    step = tensor.place == nil ? 1 : 16
    self.scale = scale
  }

  private func offset(_ row: Int, _ column: Int) -> Int {
    (place?.offset(row: row, columns: columns) ?? row * columns) + column * step
  }

  subscript(row: Int, column: Int) -> Double { unsafe scale * Double(base[offset(row, column)]) }

  func set(_ row: Int, _ column: Int, _ value: Double) {
    unsafe base[offset(row, column)] = Float(value)
  }
}
