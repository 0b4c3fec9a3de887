/// Summaries of repeated timings. They are medians, because other work on the machine only adds time, and sometimes a
/// lot.
extension [Double] {
  /// The middle value, or the mean of the two middle ones; NaN for an empty array.
  var median: Double {
    let sorted = self.sorted()
    guard !sorted.isEmpty else { return .nan }
    let middle = sorted.count / 2
    return sorted.count % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
  }

  /// The arithmetic mean.
  var mean: Double { reduce(0, +) / Double(count) }
}

/// The seconds that each call of one contender took, round by round.
struct Timings {
  /// One list per round.
  var rounds: [[Double]] = []

  /// The median over rounds of each round's median.
  var median: Double { rounds.map(\.median).median }
  /// The fastest call of all.
  var minimum: Double { rounds.joined().min() ?? .nan }
}
