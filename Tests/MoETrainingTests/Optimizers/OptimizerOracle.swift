import Foundation
import MoE
import MoETraining

/// The optimizers as their papers write them, in Double over one logical matrix.
struct OptimizerOracle {
  let configuration: OptimizerConfiguration
  let decays: Bool
  let (rows, columns): (Int, Int)
  var values: [Double]
  private var first: [Double]
  private var second: [Double]
  private var rowSquares: [Double]
  private var columnSquares: [Double]

  init(_ configuration: OptimizerConfiguration, _ matrix: Matrix, decays: Bool) {
    self.configuration = configuration
    self.decays = decays
    (rows, columns) = (matrix.rows, matrix.columns)
    values = matrix.elements.map(Double.init)
    first = values.map { _ in 0 }
    second = first
    rowSquares = Array(repeating: 0, count: rows)
    columnSquares = Array(repeating: 0, count: columns)
  }

  /// One step down `gradient`, already scaled.
  mutating func step(_ t: Int, _ gradient: [Double], rate: Double) {
    switch configuration.kind {
    case .adamw: adamW(t, gradient, rate)
    case .sgd: sgd(gradient, rate)
    case .adafactor: adafactor(t, gradient, rate)
    }
  }

  private func keep(_ rate: Double) -> Double { decays ? 1 - rate * configuration.weightDecay : 1 }

  private mutating func adamW(_ t: Int, _ g: [Double], _ rate: Double) {
    let (b1, b2) = (configuration.beta1, configuration.beta2)
    for i in values.indices {
      first[i] = b1 * first[i] + (1 - b1) * g[i]
      second[i] = b2 * second[i] + (1 - b2) * g[i] * g[i]
      let mean = first[i] / (1 - pow(b1, Double(t)))
      let variance = second[i] / (1 - pow(b2, Double(t)))
      values[i] = keep(rate) * values[i] - rate * mean / (sqrt(variance) + configuration.epsilon)
    }
  }

  private mutating func sgd(_ g: [Double], _ rate: Double) {
    let momentum = configuration.momentum
    for i in values.indices {
      first[i] = momentum * first[i] + g[i]
      values[i] =
        keep(rate) * values[i] - rate * (configuration.nesterov ? g[i] + momentum * first[i] : first[i])
    }
  }

  /// Shazeer and Stern, Algorithm 4 for a matrix and 5 for a vector.
  private mutating func adafactor(_ t: Int, _ g: [Double], _ rate: Double) {
    let b2 = 1 - pow(Double(t), -0.8)
    let squares = g.map { $0 * $0 + 1e-30 }
    var update = g
    if rows > 1 && columns > 1 {
      for r in 0..<rows {
        rowSquares[r] =
          b2 * rowSquares[r] + (1 - b2) * (0..<columns).reduce(0) { $0 + squares[r * columns + $1] }
      }
      for c in 0..<columns {
        columnSquares[c] =
          b2 * columnSquares[c] + (1 - b2) * (0..<rows).reduce(0) { $0 + squares[$1 * columns + c] }
      }
      let total = rowSquares.reduce(0, +)
      for i in g.indices { update[i] /= sqrt(rowSquares[i / columns] * columnSquares[i % columns] / total) }
    } else {
      for i in g.indices {
        second[i] = b2 * second[i] + (1 - b2) * squares[i]
        update[i] /= sqrt(second[i])
      }
    }
    func rms(_ x: [Double]) -> Double { sqrt(x.reduce(0) { $0 + $1 * $1 } / Double(x.count)) }
    let rate = configuration.relativeStep ? min(1e-2, 1 / sqrt(Double(t))) : rate
    let scale = configuration.scalesByParameter ? max(1e-3, rms(values)) : 1
    let factor = rate * scale / max(1, rms(update) / configuration.updateClip)
    for i in values.indices {
      first[i] = configuration.momentum * first[i] + (1 - configuration.momentum) * factor * update[i]
      values[i] = keep(rate) * values[i] - first[i]
    }
  }
}
