package import MoECore

/// A token's K experts at random: of all distributions over sets of K experts in which each expert has its chance, the
/// one of most entropy, the conditional Poisson distribution (Chen, Dempster and Liu 1994, *Weighted finite population
/// sampling to maximize entropy*, Biometrika 81).
///
/// Each expert is drawn by itself, e with probability p_e, on the condition that K are drawn. Chances of sets of experts
/// are then quotients of Poisson binomial probabilities, exact up to rounding: nothing is simulated. Where all chances
/// are equal these are the hypergeometric ones.
package struct ChoiceModel {
  /// K.
  package let expertsPerToken: Int
  /// `[E]`, in an order in which what is asked for together stands together.
  private let probabilities: [Double]
  /// `[E + 1][K + 1]`: the probability that so many of the experts before (of those from there on) are drawn.
  private let before: [[Double]]
  private let after: [[Double]]
  /// The probability of drawing K in all.
  private let whole: Double

  /// - Parameter chances: of each expert, 0 to 1, together K.
  package init(chances: [Double], expertsPerToken: Int) {
    self.expertsPerToken = expertsPerToken
    var probabilities = chances
    var tables = Self.tables(probabilities, expertsPerToken)
    // θ_e ← chance_e / (chance of e over θ_e), θ = p/(1 − p), which Chen et al. show to converge.
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

  /// The chance that a token has at least one of these experts, of which e keeps the token with probability `kept[e]`.
  package func chance(ofAny experts: Range<Int>, kept: [Double]) -> Double {
    // Of the experts in the range, those that are drawn and drop the token.
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

  /// The experts of one token, ascending.
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

  /// One more expert, drawn or not.
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
