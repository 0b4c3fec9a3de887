/// The mean and the range of a quantity over runs that differ only in their seed.
package struct Spread: Equatable {
  package var mean: Double
  package var low: Double
  package var high: Double
  /// The number of runs that have the quantity.
  package var count: Int

  /// Returns nil if there are no values.
  package init?(_ values: [Double]) {
    guard let low = values.min(), let high = values.max() else { return nil }
    (self.low, self.high, count) = (low, high, values.count)
    mean = values.reduce(0, +) / Double(values.count)
  }

  /// Returns “1.23 (1.20–1.27)”, or only the mean if there is one run.
  package func text(_ format: (Double) -> String) -> String {
    count == 1 ? format(mean) : "\(format(mean)) (\(format(low))–\(format(high)))"
  }

  package func text(_ digits: Int) -> String { text { fixed($0, digits) } }

  /// Returns the text, followed by the number of runs that have the quantity if some do not.
  package func text(_ digits: Int, of all: Int) -> String {
    text(digits) + (count == all ? "" : " in \(count) of \(all)")
  }
}
