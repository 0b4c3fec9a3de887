public import MoECore

extension Reference {
  /// Returns dL/dlogits `[T, E]` of a loss of the router. The loss depends on the logits through the probabilities
  /// ``Routing/scores`` and through ln Σ exp(logit).
  ///
  /// - The softmax over all experts: dL/dlⱼ = pⱼ·(dL/dpⱼ − Σₖ dL/dpₖ·pₖ).
  /// - Sigmoids divided by their sum, p = s/(Σs + 1e−20): dL/dsⱼ = (dL/dpⱼ − Σₖ dL/dpₖ·pₖ)/(Σs + 1e−20), times σ′.
  /// - z = ln Σ exp(l): dz/dl = softmax(l), for every scoring.
  ///
  /// - Parameters:
  ///   - loss: the loss and its gradients.
  ///   - logits: the logits `[T, E]`.
  ///   - expertIDs: the chosen experts `[T, K]`; −1 for a masked token, which gets no gradient.
  ///   - policy: the routing policy, which turns logits into scores.
  ///   - noise: the random numbers of a training pass.
  public static func lossBackward(
    _ loss: RouterLoss, logits: [[Double]], expertIDs: [[Int]], policy: RoutingPolicy,
    noise: RouterNoise? = nil
  ) -> [[Double]] {
    logits.indices.map { token in
      let row = seenLogits(logits[token], policy: policy, noise: noise, token: token)
      if expertIDs[token].first == -1 { return row.map { _ in 0 } }
      let gradient = loss.probabilityGradient[token]
      let ofProbabilities: [Double]
      switch policy.scoring {
      case .softmax, .softmaxOverSelected, .sparseMixer:
        ofProbabilities = softmaxBackward(softmax(row), gradient: gradient)
      case .sigmoid, .sigmoidOfSelected:
        let ofScores = normalizationBackward(
          row.map(sigmoid), by: .sum(plus: 1e-20), gradient: gradient)
        ofProbabilities = zip(ofScores, row).map { $0 * sigmoidDerivative($1) }
      case .squareRootSoftplus:
        let ofScores = normalizationBackward(
          row.map(squareRootSoftplus), by: .sum(plus: 1e-20), gradient: gradient)
        ofProbabilities = zip(ofScores, row).map { $0 * squareRootSoftplusDerivative($1) }
      }
      let ofLogSumExp = softmax(row).map { loss.logSumExpGradient[token] * $0 }
      return sum(ofProbabilities, ofLogSumExp).map { $0 * Double(policy.logitScale) }
    }
  }
}
