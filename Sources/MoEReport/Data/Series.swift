/// A quantity over training steps.
struct Series: Equatable {
  struct Point: Equatable {
    var step: Double
    var value: Double
  }

  var points: [Point]

  init(_ points: [Point]) { self.points = points }

  /// One point for each record that has the value.
  init(_ steps: [StepRecord], _ value: (StepRecord) -> Double?) {
    points = steps.compactMap { step in value(step).map { Point(step: Double(step.step), value: $0) } }
  }

  var last: Double? { points.last?.value }

  /// Exponential moving averages with weight 1/span of each new point, their start corrected as Adam's moments are
  /// (Kingma and Ba 2015, §3), so that the first point is the first value.
  func smoothed(span: Double) -> Series {
    let weight = 1 / max(1, span)
    var (mean, mass) = (0.0, 0.0)
    return Series(
      points.map { point in
        mean += weight * (point.value - mean)
        mass += weight * (1 - mass)
        return Point(step: point.step, value: mean / mass)
      })
  }

  /// At most 2·`count` points: the lowest and the highest of each of `count` stretches in their order, so that no
  /// spike is lost.
  func extremes(_ count: Int) -> Series {
    if points.count <= 2 * count { return self }
    return Series(
      stretches(points.count, count).flatMap { range in
        let part = points[range]
        let low = part.min { $0.value < $1.value }!
        let high = part.max { $0.value < $1.value }!
        return low.step == high.step ? [low] : low.step < high.step ? [low, high] : [high, low]
      })
  }

  /// At most `count` points: the mean of each stretch at its last step; the first and the last step are kept.
  func means(_ count: Int) -> Series {
    if points.count <= count { return self }
    let means = stretches(points.count - 1, count - 1).map { range in
      let part = points[(range.lowerBound + 1)..<(range.upperBound + 1)]
      return Point(step: part.last!.step, value: part.reduce(0) { $0 + $1.value } / Double(part.count))
    }
    return Series(points.prefix(1) + means)
  }
}

/// `length` indices in `count` stretches of nearly equal length, none of them empty.
func stretches(_ length: Int, _ count: Int) -> [Range<Int>] {
  let count = max(1, min(length, count))
  return length == 0 ? [] : (0..<count).map { $0 * length / count..<($0 + 1) * length / count }
}
