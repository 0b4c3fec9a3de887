/// Times repeated calls.
enum Stopwatch {
  /// Returns the seconds since a fixed moment.
  static func now() -> Double {
    let (seconds, attoseconds) = (ContinuousClock.now - start).components
    return Double(seconds) + Double(attoseconds) * 1e-18
  }

  private static let start = ContinuousClock.now

  static func median(_ values: [Double]) -> Double {
    let sorted = values.sorted()
    let middle = sorted.count / 2
    return sorted.count % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
  }

  /// Returns the median time of calls that are repeated for about `seconds`, at least three times, after one that is
  /// not counted.
  static func median(seconds: Double, _ body: () throws -> Void) rethrows -> Double {
    try body()
    var times: [Double] = []
    let end = now() + seconds
    while times.count < 3 || now() < end {
      let begin = now()
      try body()
      times.append(now() - begin)
    }
    return median(times)
  }
}
