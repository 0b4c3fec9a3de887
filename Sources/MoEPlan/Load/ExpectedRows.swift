import MoECore

/// The rows of each expert in each group of a split, drawn or expected, and the share of them that a capacity drops.
package struct ExpectedRows {
  /// `[DP][E]`: kept rows; experts are in the order of `chances`.
  package private(set) var rows: [[Double]]
  /// `[E]`: the share of an expert's choices that is kept.
  package let kept: [Double]
  /// The share of all choices that is dropped.
  package let dropRate: Double

  /// If the workload has a seed, each group's count of an expert is drawn from the normal distribution that
  /// approximates the binomial distribution over the group's tokens. The counts of a group are then scaled to add up
  /// to its choices. Without a seed, counts are expectations.
  ///
  /// - Parameters:
  ///   - chances: `[E]`: the probability that an expert is among the K of a token.
  ///   - groupCount: DP.
  package init(_ workload: Workload, chances: [Double], expertsPerToken: Int, groupCount: Int) {
    let tokens = Double(workload.tokenCount) / Double(groupCount)
    let choices = tokens * Double(expertsPerToken)
    var rows: [[Double]] = []
    rows.reserveCapacity(groupCount)
    for group in 0..<groupCount {
      guard let seed = workload.seed else {
        rows.append(chances.map { $0 * tokens })
        continue
      }
      var generator = SeededGenerator(seed: seed &+ UInt64(group) &* 0x9E37_79B9)
      var counts = chances.map { chance in
        let deviation = (tokens * chance * (1 - chance)).squareRoot()
        return min(max(tokens * chance + deviation * Double(generator.normal()), 0), tokens)
      }
      let factor = choices / max(counts.reduce(0, +), .leastNonzeroMagnitude)
      for expert in counts.indices { counts[expert] *= factor }
      rows.append(counts)
    }
    guard let factor = workload.capacityFactor else {
      (self.rows, kept, dropRate) = (rows, chances.map { _ in 1 }, 0)
      return
    }
    let capacity = Double(
      CapacityRule.exact(numerator: Int((factor * 1000).rounded()), denominator: 1000, minimum: 0).capacity(
        tokenCount: workload.tokenCount, expertCount: chances.count, expertsPerToken: expertsPerToken))
    let wanted = chances.indices.map { expert in rows.reduce(0) { $0 + $1[expert] } }
    kept = wanted.map { $0 <= capacity ? 1 : capacity / $0 }
    dropRate = wanted.reduce(0) { $0 + max($1 - capacity, 0) } / wanted.reduce(0, +)
    for group in rows.indices { for expert in kept.indices { rows[group][expert] *= kept[expert] } }
    self.rows = rows
  }
}
