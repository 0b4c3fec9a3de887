public import MoECore

/// Losses that measure how unequal the experts' probabilities are.
extension RouterStatistics {
  /// The mean probabilities that the variance loss compares.
  public enum VarianceForm: Sendable, Equatable {
    /// The table `[sequence, E]` of probabilities averaged over the batch. It compares positions too. A routing that
    /// sends each position to its own expert is balanced over all tokens, but scores as high as one that sends every
    /// token to the same expert. This form needs statistics grouped by position.
    case seedPositional
    /// The mean probabilities over all tokens: 0 when balanced.
    case overTokens
  }

  /// Returns coefficient·(the unbiased variance of the mean probabilities). For fewer than two values the loss is 0.
  ///
  /// - Throws: `MoEError.invalidConfiguration` for `.seedPositional` with statistics that are not grouped by position.
  public func variance(_ form: VarianceForm, coefficient: Double = 1) throws(MoEError) -> RouterLoss {
    switch form {
    case .overTokens: return ofBatch.varianceOfMeans(coefficient: coefficient)
    case .seedPositional:
      guard case .position = grouping else {
        throw .invalidConfiguration(
          "a variance over positions cannot be taken of statistics of a \(grouping)")
      }
      return varianceOfMeans(coefficient: coefficient)
    }
  }

  /// Returns coefficient·var(I)/(mean(I)² + 10⁻¹⁰), with I the sum of each expert's probabilities and var the unbiased
  /// variance (Shazeer et al. 2017 §4, eq. 7, with Tutel's divisor).
  ///
  /// Tutel also adds a load loss with the same coefficient ½, which needs the noisy logits; it is not computed here. The
  /// square of the coefficient of variation is smooth at balance, but the
  /// coefficient itself has no derivative there. With one expert the loss is 0.
  public func importance(coefficient: Double = 0.5) -> RouterLoss {
    let batch = ofBatch
    let importance = (0..<expertCount).map { batch.probabilitySum(0, $0) }
    guard expertCount > 1, batch.tokenCounts[0] > 0 else { return batch.linear { _, _ in 0 } }
    let (variance, slope) = Self.variance(importance)
    let mean = importance.reduce(0, +) / Double(expertCount)
    let divisor = mean * mean + 1e-10
    // d mean²/dI = 2·mean/E.
    let shared = variance / (divisor * divisor) * 2 * mean / Double(expertCount)
    var loss = batch.linear { _, expert in coefficient * (slope[expert] / divisor - shared) }
    loss.value = coefficient * variance / divisor
    return loss
  }

  /// Returns the variance of the mean probabilities, over the groups that have tokens.
  private func varianceOfMeans(coefficient: Double) -> RouterLoss {
    let groups = (0..<groupCount).filter { tokenCounts[$0] > 0 }
    let means = groups.flatMap { group in
      (0..<expertCount).map { probabilitySum(group, $0) / Double(tokenCounts[group]) }
    }
    guard means.count > 1 else { return linear { _, _ in 0 } }
    let (variance, slope) = Self.variance(means)
    var row = Array(repeating: 0, count: groupCount)
    for (index, group) in groups.enumerated() { row[group] = index }
    var loss = linear { group, expert in
      coefficient * slope[row[group] * expertCount + expert] / Double(tokenCounts[group])
    }
    loss.value = coefficient * variance
    return loss
  }

  /// Returns Σ(v − v̄)²/(n − 1) and its gradient 2·(v − v̄)/(n − 1).
  private static func variance(_ values: [Double]) -> (value: Double, gradient: [Double]) {
    let mean = values.reduce(0, +) / Double(values.count)
    let freedom = Double(values.count - 1)
    return (
      values.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / freedom, values.map { 2 * ($0 - mean) / freedom }
    )
  }
}
