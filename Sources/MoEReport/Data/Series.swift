internal import MoERun

/// A quantity over training steps.
package struct Series: Equatable {
  package struct Point: Equatable {
    package var step: Double
    package var value: Double

    package init(step: Double, value: Double) { (self.step, self.value) = (step, value) }
  }

  package var points: [Point]

  package init(_ points: [Point]) { self.points = points }

  /// Makes one point for each record that has the value.
  init(_ steps: [StepRecord], _ value: (StepRecord) -> Double?) {
    points = steps.compactMap { step in value(step).map { Point(step: Double(step.step), value: $0) } }
  }

  var last: Double? { points.last?.value }

  /// Returns centred means of up to 2·`radius` + 1 points, which do not lag as running means do. At the beginning the
  /// radius is smaller, so that a steep start stays visible. At the end a mean covers only the points to its left.
  package func smoothed(radius: Int) -> Series {
    var sums = [0.0]
    for point in points { sums.append(sums.last! + point.value) }
    return Series(
      points.indices.map { index in
        let radius = min(radius, index)
        let end = min(points.count, index + radius + 1)
        let mean = (sums[end] - sums[index - radius]) / Double(end - index + radius)
        return Point(step: points[index].step, value: mean)
      })
  }

  /// Returns at most 2·`count` points: the lowest and the highest of each of `count` ranges, in order of steps, so
  /// that no spike is lost.
  package func extremes(_ count: Int) -> Series {
    if points.count <= 2 * count { return self }
    return Series(
      stretches(points.count, count).flatMap { range in
        let part = points[range]
        let low = part.min { $0.value < $1.value }!
        let high = part.max { $0.value < $1.value }!
        return low.step == high.step ? [low] : low.step < high.step ? [low, high] : [high, low]
      })
  }

  /// Returns at most `count` points: the mean of each range at its last step. The first and the last step are kept.
  package func means(_ count: Int) -> Series {
    if points.count <= count { return self }
    let means = stretches(points.count - 1, count - 1).map { range in
      let part = points[(range.lowerBound + 1)..<(range.upperBound + 1)]
      return Point(step: part.last!.step, value: part.reduce(0) { $0 + $1.value } / Double(part.count))
    }
    return Series(points.prefix(1) + means)
  }
}

/// Divides `length` indices into at most `count` ranges of nearly equal length, none of them empty.
package func stretches(_ length: Int, _ count: Int) -> [Range<Int>] {
  let count = max(1, min(length, count))
  return length == 0 ? [] : (0..<count).map { $0 * length / count..<($0 + 1) * length / count }
}
