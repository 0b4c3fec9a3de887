public import MoECore

extension Reference {
  /// dL/dw `[T, K]` → dL/dlogits `[T, E]`: back through the scale, the normalisation and the scoring.
  ///
  /// Which experts were chosen, which choices were dropped, which groups were masked and which experts
  /// survived SparseMixer's threshold are constants. A dropped choice has dL/dw = 0, yet it was part of the sum
  /// that the others were divided by, so its logit gets a gradient through the sum. A masked token gets none.
  ///
  /// - Parameters:
  ///   - logits: `[T, E]`.
  ///   - expertIDs: `[T, K]`; −1 where masked.
  ///   - policy: the routing policy.
  ///   - weightGradient: dL/dw `[T, K]`.
  ///   - noise: of a training pass. SparseMixer then has its estimator: what reaches a choice's score goes to the
  ///     logits by the Jacobian of the survivors' softmax, as if the score had not been multiplied by its factor.
  public static func routerBackward(
    logits: [[Double]], expertIDs: [[Int]], policy: RoutingPolicy, weightGradient: [[Double]],
    noise: RouterNoise? = nil
  ) -> [[Double]] {
    logits.indices.map { token in
      let (row, chosen) = (logits[token], expertIDs[token])
      if chosen.contains(-1) { return row.map { _ in 0 } }
      let raw = rawWeights(row, token: token, chosen: chosen, scoring: policy.scoring, noise: noise)
      let normalized = weightGradient[token].map { $0 * Double(policy.scale) }
      let rawGradient = normalizationBackward(raw, by: policy.normalization, gradient: normalized)
      return scoringBackward(row, chosen: chosen, scoring: policy.scoring, gradient: rawGradient)
    }
  }

  /// v = r/d with d = d(Σr): dL/drⱼ = (dL/dvⱼ − d′·Σₖ dL/dvₖ·vₖ)/d.
  ///
  /// d′ is 1 where the divisor is the sum, and 0 where it is a constant: no normalisation, or a sum that is
  /// not above its floor. Where d is 0 the forward pass divides by nothing, and so does this.
  static func normalizationBackward(
    _ raw: [Double], by normalization: RoutingPolicy.Normalization, gradient: [Double]
  ) -> [Double] {
    let divisor = divisor(of: raw, normalization)
    if divisor == 0 { return gradient }
    let slope =
      switch normalization {
      case .none: 0.0
      case .sum: 1.0
      case .sumAtLeast(let floor): raw.reduce(0, +) > Double(floor) ? 1.0 : 0.0
      }
    let shared = slope * dot(gradient, raw) / divisor
    return gradient.map { ($0 - shared) / divisor }
  }

  /// dL/dr `[K]` → dL/dlogits `[E]`, r being the scores of the chosen experts.
  private static func scoringBackward(
    _ logits: [Double], chosen: [Int], scoring: RoutingPolicy.Scoring, gradient: [Double]
  ) -> [Double] {
    /// Puts the gradients of some experts among the zeros of all others.
    func scattered(_ values: [Double], to experts: [Int]) -> [Double] {
      var all = logits.map { _ in 0.0 }
      for (value, expert) in zip(values, experts) { all[expert] = value }
      return all
    }
    switch scoring {
    case .softmax:
      return softmaxBackward(softmax(logits), gradient: scattered(gradient, to: chosen))
    case .sigmoid, .sigmoidOfSelected:
      return scattered(zip(gradient, chosen).map { $0 * sigmoidDerivative(logits[$1]) }, to: chosen)
    case .softmaxOverSelected:
      let shares = softmax(chosen.map { logits[$0] })
      return scattered(softmaxBackward(shares, gradient: gradient), to: chosen)
    case .sparseMixer(let jitter):
      // The derivative of the evaluation's formula; in training, of the share of the sampled expert.
      var sum = logits.map { _ in 0.0 }
      for choice in chosen.indices {
        let survivors = sparseMixerSurvivors(logits, chosen: chosen, choice: choice, jitter: Double(jitter))
        let ofChoice = scattered([gradient[choice]], to: [chosen[choice]])
        sum = Self.sum(sum, softmaxBackward(softmax(survivors), gradient: ofChoice))
      }
      return sum
    }
  }

  /// p = softmax(l): dL/dlⱼ = pⱼ·(dL/dpⱼ − Σₖ dL/dpₖ·pₖ).
  static func softmaxBackward(_ p: [Double], gradient: [Double]) -> [Double] {
    let mean = dot(gradient, p)
    return zip(p, gradient).map { $0 * ($1 - mean) }
  }

  /// σ′(x) = σ(x)·σ(−x).
  static func sigmoidDerivative(_ x: Double) -> Double { sigmoid(x) * sigmoid(-x) }
}
