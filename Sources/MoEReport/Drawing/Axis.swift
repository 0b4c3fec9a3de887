import Foundation

/// A linear axis.
struct Axis: Equatable {
  var lower: Double
  var upper: Double

  /// An axis that is never empty.
  init(_ lower: Double, _ upper: Double) {
    self.lower = lower
    self.upper = upper > lower ? upper : lower + max(abs(lower) * 0.1, 1e-9)
  }

  /// Where a value lies: 0 at the lower end, 1 at the upper.
  func position(_ value: Double) -> Double { (value - lower) / (upper - lower) }

  /// Round values within the axis, about `count` of them: multiples of 1, 2 or 5 times a power of ten.
  func ticks(_ count: Int) -> [Double] {
    let rough = (upper - lower) / Double(max(1, count))
    let power = pow(10, floor(log10(rough)))
    let factor = [1, 2, 5, 10].first { $0 * power >= rough * 0.999 } ?? 10
    let step = factor * power
    let first = (lower / step - 1e-9).rounded(.up)
    let last = (upper / step + 1e-9).rounded(.down)
    return first <= last ? stride(from: first, through: last, by: 1).map { $0 * step } : []
  }

  /// Ticks that are whole numbers, for steps.
  func wholeTicks(_ count: Int) -> [Double] { ticks(count).filter { $0 == $0.rounded() } }
}
