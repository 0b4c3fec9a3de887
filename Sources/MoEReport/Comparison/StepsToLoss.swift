extension Series {
  /// The step at which the line through the points first comes down to a value; nil where it stays above.
  package func step(reaching value: Double) -> Double? {
    guard let index = points.firstIndex(where: { $0.value <= value }) else { return nil }
    if index == 0 { return points[0].step }
    let (before, after) = (points[index - 1], points[index])
    let share = (before.value - value) / (before.value - after.value)
    return before.step + share * (after.step - before.step)
  }

  /// The mean of each 2·`radius` + 1 points at the middle one's step: shorter by `radius` at both ends, so that no
  /// point has a lag; the series itself where it is too short for one.
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
