public import MoECore

extension Reference {
  /// dL/dlogits `[T, E]` of a loss of the router, through the probabilities of
  /// ``Routing/scores`` and through ln Σ exp(logit).
  ///
  /// - The softmax over all experts: dL/dlⱼ = pⱼ·(dL/dpⱼ − Σₖ dL/dpₖ·pₖ).
  /// - Sigmoids over their sum, p = s/(Σs + 1e−20): dL/dsⱼ = (dL/dpⱼ − Σₖ dL/dpₖ·pₖ)/(Σs + 1e−20), times σ′.
  /// - z = ln Σ exp(l): dz/dl = softmax(l), whatever the scoring.
  ///
  /// - Parameters:
  ///   - loss: the loss and its gradients.
  ///   - logits: `[T, E]`.
  ///   - expertIDs: `[T, K]`; a token of −1 is masked and gets no gradient.
  ///   - scoring: the way in which logits become scores.
  public static func lossBackward(
    _ loss: RouterLoss, logits: [[Double]], expertIDs: [[Int]], scoring: RoutingPolicy.Scoring
  ) -> [[Double]] {
    logits.indices.map { token in
      let row = logits[token]
      if expertIDs[token].contains(-1) { return row.map { _ in 0 } }
      let gradient = loss.probabilityGradient[token]
      let ofProbabilities: [Double]
      switch scoring {
      case .softmax, .softmaxOverSelected, .sparseMixer:
        ofProbabilities = softmaxBackward(softmax(row), gradient: gradient)
      case .sigmoid, .sigmoidOfSelected:
        let ofScores = normalizationBackward(
          row.map(sigmoid), by: .sum(plus: 1e-20), gradient: gradient)
        ofProbabilities = zip(ofScores, row).map { $0 * sigmoidDerivative($1) }
      }
      let ofLogSumExp = softmax(row).map { loss.logSumExpGradient[token] * $0 }
      return sum(ofProbabilities, ofLogSumExp)
    }
  }
}
