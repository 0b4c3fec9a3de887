public import MoECore

#if canImport(Darwin)
  import Darwin
#else
  import Glibc
#endif

extension Reference {
  /// Computes dL/dlogits `[T, E]` from dL/dw `[T, K]`: the backward pass of the scale, the normalisation and the
  /// scoring.
  ///
  /// The chosen experts, the drops, the group masks and SparseMixer's survivors are constants. A dropped choice has
  /// dL/dw = 0, but its score is part of the sum by which the other choices are divided. So its logit gets a gradient
  /// through the sum. A masked token gets no gradient.
  ///
  /// - Parameters:
  ///   - logits: the logits `[T, E]`.
  ///   - expertIDs: the chosen experts `[T, K]`; −1 for a masked token.
  ///   - slots: `[T, K]`: −1 for a dropped choice; needed only for a policy that normalises after dropping.
  ///   - policy: the routing policy.
  ///   - weightGradient: the gradient dL/dw `[T, K]`.
  ///   - noise: the noise of the pass, if it is a training pass with noise. SparseMixer then uses its estimator: it
  ///     multiplies the gradient of a choice's score by the Jacobian of the survivors' softmax, as if the score had not
  ///     been multiplied by its factor.
  public static func routerBackward(
    logits: [[Double]], expertIDs: [[Int]], slots: [[Int]]? = nil, policy: RoutingPolicy,
    weightGradient: [[Double]], noise: RouterNoise? = nil
  ) -> [[Double]] {
    logits.indices.map { token in
      let chosen = expertIDs[token].prefix { $0 != -1 }.map(expert(of:))
      if chosen.isEmpty { return logits[token].map { _ in 0 } }
      let row = seenLogits(logits[token], policy: policy, noise: noise, token: token)
      var raw = rawWeights(row, token: token, chosen: chosen, scoring: policy.scoring, noise: noise)
      let normalized = weightGradient[token].prefix(chosen.count).map { $0 * Double(policy.scale) }
      // After dropping, only the choices that are kept are in the sum.
      let isInSum = chosen.indices.map {
        policy.normalizationTime == .beforeDropping || (slots?[token][$0] ?? 0) >= 0
      }
      for choice in chosen.indices where !isInSum[choice] { raw[choice] = 0 }
      var rawGradient = normalizationBackward(raw, by: policy.normalization, gradient: normalized)
      for choice in chosen.indices where !isInSum[choice] { rawGradient[choice] = 0 }
      return scoringBackward(row, chosen: chosen, scoring: policy.scoring, gradient: rawGradient)
        .map { $0 * Double(policy.logitScale) }
    }
  }

  /// Computes the backward pass of v = r/d with d = d(Σr): dL/drⱼ = (dL/dvⱼ − d′·Σₖ dL/dvₖ·vₖ)/d.
  ///
  /// d′ is 1 if the divisor is the sum, and 0 if it is a constant: no normalisation, or a sum that is not above its
  /// floor. If d is 0, neither the forward nor the backward pass divides.
  static func normalizationBackward(
    _ raw: [Double], by normalization: RoutingPolicy.Normalization, gradient: [Double]
  ) -> [Double] {
    let divisor = divisor(of: raw, normalization)
    if divisor == 0 { return gradient }
    if case .norm(let power) = normalization {
      // With the norm N: dL/drⱼ = (dL/dvⱼ − (rⱼ/N)^(p−1)·Σₖ dL/dvₖ·vₖ)/N.
      let shared = dot(gradient, raw) / divisor
      return zip(gradient, raw).map { ($0 - pow($1 / divisor, Double(power) - 1) * shared) / divisor }
    }
    let slope =
      switch normalization {
      case .none: 0.0
      case .sum, .norm: 1.0
      case .sumAtLeast(let floor): raw.reduce(0, +) > Double(floor) ? 1.0 : 0.0
      }
    let shared = slope * dot(gradient, raw) / divisor
    return gradient.map { ($0 - shared) / divisor }
  }

  /// Computes dL/dlogits `[E]` from dL/dr `[K]`, with r the scores of the chosen experts.
  private static func scoringBackward(
    _ logits: [Double], chosen: [Int], scoring: RoutingPolicy.Scoring, gradient: [Double]
  ) -> [Double] {
    /// Returns `[E]`: `values` at the indices `experts`, and zeros for all other experts.
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
    case .squareRootSoftplus:
      return scattered(
        zip(gradient, chosen).map { $0 * squareRootSoftplusDerivative(logits[$1]) }, to: chosen)
    case .softmaxOverSelected:
      let shares = softmax(chosen.map { logits[$0] })
      return scattered(softmaxBackward(shares, gradient: gradient), to: chosen)
    case .sparseMixer(let jitter):
      // At evaluation, the derivative of its formula; in training, the derivative of the sampled expert's share.
      var sum = logits.map { _ in 0.0 }
      for choice in chosen.indices {
        let survivors = sparseMixerSurvivors(logits, chosen: chosen, choice: choice, jitter: Double(jitter))
        let ofChoice = scattered([gradient[choice]], to: [chosen[choice]])
        sum = Self.sum(sum, softmaxBackward(softmax(survivors), gradient: ofChoice))
      }
      return sum
    }
  }

  /// Computes the backward pass of p = softmax(l): dL/dlⱼ = pⱼ·(dL/dpⱼ − Σₖ dL/dpₖ·pₖ).
  static func softmaxBackward(_ p: [Double], gradient: [Double]) -> [Double] {
    let mean = dot(gradient, p)
    return zip(p, gradient).map { $0 * ($1 - mean) }
  }

  /// Returns σ(x)/(2·√(ln(1 + eˣ))), the derivative of √(ln(1 + eˣ)); 0 where the root is 0.
  static func squareRootSoftplusDerivative(_ x: Double) -> Double {
    let root = squareRootSoftplus(x)
    return root == 0 ? 0 : sigmoid(x) / (2 * root)
  }

  /// Returns σ′(x) = σ(x)·σ(−x).
  static func sigmoidDerivative(_ x: Double) -> Double { sigmoid(x) * sigmoid(-x) }
}
