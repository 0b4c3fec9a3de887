extension Reference.Losses {
  /// Returns c·var(I)/(mean(I)² + 10⁻¹⁰) with Iₑ = Σₜ p[t, e], the importance of expert e, and the unbiased variance
  /// over experts (Shazeer et al. 2017 §4, eq. 7; Tutel and FastMoE have this divisor).
  ///
  /// This is the square of the coefficient of variation, which is smooth at balance; the coefficient itself has no
  /// derivative there. Shazeer's load loss is the same function, applied to the probability that a token's noisy choice
  /// is a given expert. Tutel adds ½ of each of the two losses. With one expert the variance and the loss are 0.
  public static func importance(
    _ probabilities: [[Double]], coefficient: Double = 0.5, mask: [Bool]? = nil
  ) -> Reference.RouterLoss {
    var loss = Reference.RouterLoss(zerosFor: probabilities)
    let tokens = routed(probabilities.indices, mask: mask)
    guard let expertCount = probabilities.first?.count, expertCount > 1, !tokens.isEmpty else { return loss }
    let importance = columnSums(probabilities, of: tokens)
    let (variance, slope) = variance(importance)
    let mean = importance.reduce(0, +) / Double(expertCount)
    let divisor = mean * mean + 1e-10
    loss.value = coefficient * variance / divisor
    // d mean²/dI = 2·mean/E.
    let gradient = slope.map {
      coefficient * ($0 / divisor - variance / (divisor * divisor) * 2 * mean / Double(expertCount))
    }
    for token in tokens { loss.probabilityGradient[token] = gradient }
    return loss
  }

  /// Returns the unbiased variance of the table `[S, E]` of probabilities: for each position in a sequence, the mean
  /// over the sequences of the batch.
  ///
  /// The loss also compares positions. Suppose that a routing sends all tokens of a position to one expert, but each
  /// position to a different expert. It is balanced over all tokens, yet its loss is as high as that of a routing that
  /// sends every token to one expert. A position that is masked in every sequence is not in the table.
  public static func seedPositional(
    _ probabilities: [[Double]], sequenceLength: Int, coefficient: Double = 1, mask: [Bool]? = nil
  ) -> Reference.RouterLoss {
    let positions = (0..<sequenceLength).map { position in
      routed(probabilities.indices, mask: mask).filter { $0 % sequenceLength == position }
    }
    return varianceOfMeans(probabilities, groups: positions, coefficient: coefficient)
  }

  /// Returns the unbiased variance over experts of their mean probabilities over all tokens. It is 0 at balance.
  public static func varianceOverTokens(
    _ probabilities: [[Double]], coefficient: Double = 1, mask: [Bool]? = nil
  ) -> Reference.RouterLoss {
    let all = [routed(probabilities.indices, mask: mask)]
    return varianceOfMeans(probabilities, groups: all, coefficient: coefficient)
  }

  /// Returns the unbiased variance of the table `[G, E]` of mean probabilities of groups of tokens. Empty groups are
  /// not in the table.
  private static func varianceOfMeans(
    _ probabilities: [[Double]], groups: [[Int]], coefficient: Double
  ) -> Reference.RouterLoss {
    var loss = Reference.RouterLoss(zerosFor: probabilities)
    let groups = groups.filter { !$0.isEmpty }
    let means = groups.flatMap { group in
      columnSums(probabilities, of: group).map { $0 / Double(group.count) }
    }
    if means.count < 2 { return loss }
    let (variance, slope) = variance(means)
    loss.value = coefficient * variance
    let expertCount = means.count / groups.count
    for (index, group) in groups.enumerated() {
      let ofGroup = slope[index * expertCount..<(index + 1) * expertCount]
      for token in group {
        loss.probabilityGradient[token] = ofGroup.map { coefficient * $0 / Double(group.count) }
      }
    }
    return loss
  }

  /// Returns Σ(v − v̄)²/(n − 1) and its gradient 2·(v − v̄)/(n − 1), which has no further term because Σ(v − v̄) is 0.
  private static func variance(_ values: [Double]) -> (value: Double, gradient: [Double]) {
    let mean = values.reduce(0, +) / Double(values.count)
    let freedom = Double(values.count - 1)
    return (
      values.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / freedom,
      values.map { 2 * ($0 - mean) / freedom }
    )
  }

  /// Returns the sum `[E]` of the given rows of a table `[T, E]`.
  private static func columnSums(_ table: [[Double]], of rows: [Int]) -> [Double] {
    rows.dropFirst().reduce(table[rows[0]]) { Reference.sum($0, table[$1]) }
  }
}
