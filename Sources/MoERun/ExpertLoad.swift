internal import Foundation

/// Measures of how evenly choices are spread over experts.
package enum ExpertLoad {
  /// Returns the entropy −Σ p·ln p of the shares p of a load `[E]`, in nats. It is ln E where all shares are equal.
  package static func entropy(_ load: [Int]) -> Double {
    let total = Double(load.reduce(0, +))
    return load.reduce(0) { sum, count in
      let share = Double(count) / max(total, 1)
      return count > 0 ? sum - share * log(share) : sum
    }
  }

  /// Returns the standard deviation of a load `[E]` divided by its mean: 0 where the load is balanced, √(E − 1) where
  /// one expert has all choices.
  package static func variation(_ load: [Int]) -> Double {
    let mean = Double(load.reduce(0, +)) / Double(max(load.count, 1))
    if mean == 0 { return 0 }
    let squares = load.reduce(0) { $0 + (Double($1) - mean) * (Double($1) - mean) }
    return (squares / Double(load.count)).squareRoot() / mean
  }
}
