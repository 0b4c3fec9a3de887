extension Series {
  /// Returns the step at which the line through the points first falls to a value; nil if it stays above.
  package func step(reaching value: Double) -> Double? {
    guard let index = points.firstIndex(where: { $0.value <= value }) else { return nil }
    if index == 0 { return points[0].step }
    let (before, after) = (points[index - 1], points[index])
    let share = (before.value - value) / (before.value - after.value)
    return before.step + share * (after.step - before.step)
  }

  /// Returns the means of 2·`radius` + 1 neighbouring points, each at the step of the middle point. The result is
  /// shorter by `radius` points at both ends, so no mean lags behind. Returns the series itself if it is too short
  /// for one mean.
  package func centredMeans(radius: Int) -> Series {
    let width = 2 * radius + 1
    if points.count < width { return self }
    return Series(
      (0...points.count - width).map { first in
        let sum = points[first..<first + width].reduce(0) { $0 + $1.value }
        return Point(step: points[first + radius].step, value: sum / Double(width))
      })
  }
}
