extension Reference.Losses {
  /// Returns c·mean(z²) with z = ln Σ exp(logit), a loss that keeps logits small (ST-MoE §3.3, eq. 5; c = 0.001).
  ///
  /// - Parameters:
  ///   - logSumExp: the values z `[T]`.
  ///   - expertCount: E, the width of the probabilities' gradient, which is 0.
  ///   - coefficient: the factor of the loss.
  ///   - mask: the mask `[T]`, false for a masked token; nil if all tokens take part.
  public static func routerZ(
    _ logSumExp: [Double], expertCount: Int, coefficient: Double = 0.001, mask: [Bool]? = nil
  ) -> Reference.RouterLoss {
    var loss = Reference.RouterLoss(zerosFor: Reference.zeros(logSumExp.count, expertCount))
    let tokens = routed(logSumExp.indices, mask: mask)
    for token in tokens {
      loss.value += coefficient * logSumExp[token] * logSumExp[token] / Double(tokens.count)
      loss.logSumExpGradient[token] = 2 * coefficient * logSumExp[token] / Double(tokens.count)
    }
    return loss
  }
}
