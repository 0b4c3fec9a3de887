import Foundation

/// A linear axis.
package struct Axis: Equatable {
  package var lower: Double
  package var upper: Double

  /// Makes an axis; if `upper` is not above `lower`, a larger upper end is chosen.
  package init(_ lower: Double, _ upper: Double) {
    self.lower = lower
    self.upper = upper > lower ? upper : lower + max(abs(lower) * 0.1, 1e-9)
  }

  /// Returns the place of a value: 0 at the lower end, 1 at the upper end.
  package func position(_ value: Double) -> Double { (value - lower) / (upper - lower) }

  /// Returns about `count` round values within the axis: multiples of 1, 2 or 5 times a power of ten.
  package func ticks(_ count: Int) -> [Double] {
    let rough = (upper - lower) / Double(max(1, count))
    let power = pow(10, floor(log10(rough)))
    let factor = [1, 2, 5, 10].first { $0 * power >= rough * 0.999 } ?? 10
    let step = factor * power
    let first = (lower / step - 1e-9).rounded(.up)
    let last = (upper / step + 1e-9).rounded(.down)
    return first <= last ? stride(from: first, through: last, by: 1).map { $0 * step } : []
  }

  /// Returns an axis from 0 to the next round value that is not below `upper`.
  package static func fromZero(upTo upper: Double) -> Axis {
    let power = pow(10, floor(log10(max(upper, 1e-9))))
    let factor = [1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10].first { $0 * power >= upper * 0.9999 } ?? 10
    return Axis(0, factor * power)
  }

  /// Returns the ticks that are whole numbers, for steps.
  package func wholeTicks(_ count: Int) -> [Double] { ticks(count).filter { $0 == $0.rounded() } }
}
