/// A quantity over runs that differ in their seed.
package struct Spread: Equatable {
  package var mean: Double
  package var low: Double
  package var high: Double
  /// How many runs have it.
  package var count: Int

  /// Nil where no run has the quantity.
  package init?(_ values: [Double]) {
    guard let low = values.min(), let high = values.max() else { return nil }
    (self.low, self.high, count) = (low, high, values.count)
    mean = values.reduce(0, +) / Double(values.count)
  }

  /// “1.23 (1.20–1.27)”, and the mean alone of a single run.
  package func text(_ format: (Double) -> String) -> String {
    count == 1 ? format(mean) : "\(format(mean)) (\(format(low))–\(format(high)))"
  }

  package func text(_ digits: Int) -> String { text { fixed($0, digits) } }

  /// The same, with how many of all runs have the quantity where some do not.
  package func text(_ digits: Int, of all: Int) -> String {
    text(digits) + (count == all ? "" : " in \(count) of \(all)")
  }
}
