/// What repeated timings come to. Medians, because a machine that does other work adds time and never takes
/// any away, and now and then adds a great deal.
extension [Double] {
  /// The middle value, or the mean of the two middle ones; NaN of nothing.
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
  /// One list a round.
  var rounds: [[Double]] = []

  /// The median over rounds of each round's median.
  var median: Double { rounds.map(\.median).median }
  /// The fastest call of all.
  var minimum: Double { rounds.joined().min() ?? .nan }
}
