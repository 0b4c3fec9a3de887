package import MoECore

/// A probability distribution of a token's K experts: among all distributions over sets of K experts in which each
/// expert has its given probability, the one with the largest entropy. It is the conditional Poisson distribution
/// (Chen, Dempster and Liu 1994, *Weighted finite population sampling to maximize entropy*, Biometrika 81).
///
/// Each expert e is drawn independently with probability p_e, under the condition that K are drawn in all.
/// Probabilities of sets of experts are quotients of Poisson binomial probabilities, exact up to rounding; nothing is
/// simulated. If all experts have the same probability, the distribution is hypergeometric.
package struct ChoiceModel {
  /// K.
  package let expertsPerToken: Int
  /// `[E]`: p_e. Experts of one part stand together, because ``chance(ofAny:kept:)`` takes a range.
  private let probabilities: [Double]
  /// `[E + 1][K + 1]`: `before[e][k]` is the probability that k of the experts below e are drawn, and `after[e][k]`
  /// that k of the experts from e on are drawn.
  private let before: [[Double]]
  private let after: [[Double]]
  /// The probability that K experts are drawn in all.
  private let whole: Double

  /// - Parameter chances: `[E]`: the probability that a token chooses the expert, 0 to 1; they add up to K.
  package init(chances: [Double], expertsPerToken: Int) {
    self.expertsPerToken = expertsPerToken
    var probabilities = chances
    var tables = Self.tables(probabilities, expertsPerToken)
    // With θ = p/(1 − p): θ_e ← θ_e · chance_e / (probability of e under θ). Chen et al. show that this converges.
    for _ in 0..<200 {
      let whole = tables.before[chances.count][expertsPerToken]
      var largest = 0.0
      for (expert, chance) in chances.enumerated() where chance > 0 && chance < 1 {
        let others = Self.product(tables.before[expert], tables.after[expert + 1], at: expertsPerToken - 1)
        let actual = probabilities[expert] * others / whole
        largest = max(largest, abs(actual - chance))
        let odds = chance / actual * probabilities[expert] / (1 - probabilities[expert])
        probabilities[expert] = odds / (1 + odds)
      }
      tables = Self.tables(probabilities, expertsPerToken)
      if largest < 1e-12 { break }
    }
    self.probabilities = probabilities
    before = tables.before
    after = tables.after
    whole = before[chances.count][expertsPerToken]
  }

  /// Returns the probability that a token has a kept choice of at least one of these experts.
  ///
  /// - Parameter kept: `[E]`: the probability that an expert keeps a choice, instead of dropping it.
  package func chance(ofAny experts: Range<Int>, kept: [Double]) -> Double {
    // inside[k]: the probability that k experts of the range are drawn and all of them drop the token.
    var inside = [1.0] + Array(repeating: 0, count: expertsPerToken)
    for expert in experts {
      Self.add(probabilities[expert] * (1 - kept[expert]), 1 - probabilities[expert], to: &inside)
    }
    var none = 0.0
    for (count, probability) in inside.enumerated() where probability > 0 {
      none +=
        probability
        * Self.product(before[experts.lowerBound], after[experts.upperBound], at: expertsPerToken - count)
    }
    return min(max(1 - none / whole, 0), 1)
  }

  /// Draws the experts of one token, in ascending order.
  package func draw(using generator: inout SeededGenerator) -> [Int] {
    var chosen: [Int] = []
    for expert in probabilities.indices {
      let left = expertsPerToken - chosen.count
      if left == 0 { break }
      let chance = probabilities[expert] * after[expert + 1][left - 1] / after[expert][left]
      if Double(generator.next() >> 11) * 0x1p-53 < chance { chosen.append(expert) }
    }
    return chosen
  }

  private static func tables(_ probabilities: [Double], _ chosen: Int) -> (
    before: [[Double]], after: [[Double]]
  ) {
    let none = [1.0] + Array(repeating: 0, count: chosen)
    var before = [none]
    for probability in probabilities {
      var next = before.last!
      add(probability, 1 - probability, to: &next)
      before.append(next)
    }
    var after = [none]
    for probability in probabilities.reversed() {
      var next = after.last!
      add(probability, 1 - probability, to: &next)
      after.append(next)
    }
    return (before, after.reversed())
  }

  /// Adds one more expert to the counts, which is drawn or not.
  private static func add(_ drawn: Double, _ left: Double, to counts: inout [Double]) {
    for count in stride(from: counts.count - 1, to: 0, by: -1) {
      counts[count] = counts[count] * left + counts[count - 1] * drawn
    }
    counts[0] *= left
  }

  private static func product(_ left: [Double], _ right: [Double], at total: Int) -> Double {
    var sum = 0.0
    for count in 0...max(total, 0) where total >= 0 { sum += left[count] * right[total - count] }
    return sum
  }
}
