import MoECore
import MoEReference
import TestSupport

/// Compares the router's outputs for T tokens with the oracle.
struct RouterJudge {
  let call: RouterCall
  let expected: Reference.Routing
  let bounds: [RouterBounds]
  let mask: [Bool]?

  private var expertCount: Int { expected.expertCount }
  private var expertsPerToken: Int { expected.expertIDs.first?.count ?? 1 }

  func check() throws {
    for token in bounds.indices {
      let range = token * expertsPerToken..<(token + 1) * expertsPerToken
      let ids = call.expertIDs[range].map(Int.init)
      let weights = call.weights[range].map(Double.init)
      if mask?[token] ?? true {
        try checkSelection(token, ids)
        try checkWeights(token, ids, weights)
      } else {
        try ensure(ids.allSatisfy { $0 == -1 } && weights.allSatisfy { $0 == 0 }, "masked token \(token)")
      }
      try checkSums(token)
    }
    try checkCounts()
  }

  /// Checks that each choice is the best remaining expert, up to the error of two scores. If two compare equal exactly,
  /// the lower index comes first. So ids equal the oracle's if its margins exceed the error.
  private func checkSelection(_ token: Int, _ ids: [Int]) throws {
    try ensure(Set(ids).count == ids.count && ids.allSatisfy((0..<expertCount).contains), "ids \(ids)")
    let bound = bounds[token]
    if bound.groupsAreAmbiguous { return }
    let error = bound.selectionError
    let scores = expected.selectionScores[token]
    for (choice, expert) in ids.enumerated() {
      for other in 0..<expertCount where !ids[...choice].contains(other) {
        let isTwin = scores[other] == scores[expert] && bound.logits[other] == bound.logits[expert]
        try ensure(
          isTwin ? expert < other : scores[expert] >= scores[other] - 2 * error,
          "token \(token) chooses \(ids), the oracle \(expected.expertIDs[token]): expert \(expert) scores "
            + "\(scores[expert]), \(other) \(scores[other]), error \(error)")
      }
    }
    let margin = expected.margins[token]
    // The errors of two scores and a difference. An exact +∞ must be +∞.
    let marginError = 2 * error + (margin.isFinite ? 2 * Tolerance.singleRoundoff * (margin + 2 * error) : 0)
    try ensure(
      Tolerance.agree(Double(call.margins[token]), margin, within: marginError),
      "margin \(call.margins[token]) of token \(token), expected \(margin)")
  }

  /// Checks the weights if the oracle chose the same experts in the same order. (At near ties the choices may differ.
  /// Then `checkSelection` has judged the choice, and the weights belong to other experts.)
  private func checkWeights(_ token: Int, _ ids: [Int], _ weights: [Double]) throws {
    guard ids == expected.expertIDs[token], !bounds[token].thresholdIsAmbiguous(chosen: ids) else { return }
    for (weight, exact) in zip(weights, expected.weights[token]) {
      let error = bounds[token].weightError(exact, chosen: ids)
      try ensure(
        Tolerance.agree(weight, exact, within: error),
        "weights \(weights) of token \(token), expected \(expected.weights[token]) within \(error)")
    }
  }

  private func checkSums(_ token: Int) throws {
    let bound = bounds[token]
    guard mask?[token] ?? true else {
      let scores = call.scores[token * expertCount..<(token + 1) * expertCount]
      try ensure(
        scores.allSatisfy { $0 == 0 } && call.logSumExp[token] == 0 && call.margins[token] == .infinity,
        "masked token \(token)")
      return
    }
    let logSumExp = Double(call.logSumExp[token])
    try ensure(
      Tolerance.agree(
        logSumExp, expected.logSumExp[token], within: bound.logSumExpError(expected.logSumExp[token])),
      "log-sum-exp \(logSumExp) of token \(token), expected \(expected.logSumExp[token])")
    let exact = bound.policy.weighsSeparately ? bound.scores : expected.scores[token]
    for expert in 0..<expertCount {
      let score = Double(call.scores[token * expertCount + expert])
      let error = bound.relative * exact[expert] + bound.underflow
      try ensure(
        Tolerance.agree(score, exact[expert], within: error),
        "score \(score) of token \(token) for expert \(expert), expected \(exact[expert]) within \(error)")
    }
  }

  /// Checks that the counts are those of the ids. Rounding to its integer unit changes a probability sum by at most
  /// 2⁻³¹ per token. The probabilities are the written scores; for sigmoid they are divided by their sum, with one
  /// rounding.
  private func checkCounts() throws {
    for expert in 0..<expertCount {
      let count = call.expertIDs.count { $0 == expert }
      let first = stride(from: 0, to: call.expertIDs.count, by: expertsPerToken).count {
        call.expertIDs[$0] == expert
      }
      try ensure(call.counts[expert] == count, "count \(call.counts[expert]) of expert \(expert): \(count)")
      try ensure(call.firstCounts[expert] == first, "first choices of expert \(expert)")
      var (sum, error) = (0.0, 0.0)
      for token in bounds.indices where mask?[token] ?? true {
        let row = call.scores[token * expertCount..<(token + 1) * expertCount]
        let score = Double(row[row.startIndex + expert])
        if bounds[token].policy.weighsSeparately {
          let share = score / (row.reduce(0) { $0 + Double($1) } + 1e-20)
          sum += share
          error += Tolerance.gamma(expertCount + 3) * share
        } else {
          sum += score
        }
        error += 0x1.0001p-31
      }
      let found = Double(call.probabilitySums[expert]) * 0x1p-30
      try ensure(
        Tolerance.agree(found, sum, within: error), "probability sum \(found) of expert \(expert), \(sum)")
    }
  }
}
