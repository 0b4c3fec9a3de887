public import MoECore

extension Reference {
  /// Where each token goes and how much of each expert it takes, before anything is dropped.
  public struct Routing: Sendable, Equatable {
    /// E.
    public var expertCount: Int
    /// `[T, K]`: each token's experts by selection score descending, then index ascending; −1 where masked.
    public var expertIDs: [[Int]]
    /// `[T, K]`: normalised and scaled; 0 where masked.
    public var weights: [[Double]]
    /// `[T, E]`: the probabilities of the losses: sigmoid scores over their sum plus 1e−20 for sigmoid
    /// scoring, the softmax over all experts for any other; 0 where masked.
    public var scores: [[Double]]
    /// `[T, E]`: what the choice compared, after the selection bias and the group mask; 0 where masked.
    public var selectionScores: [[Double]]
    /// `[T]`: the selection score of the last choice less that of the best expert not chosen; +∞ where every
    /// expert is chosen and where masked.
    public var margins: [Double]
    /// `[T]`: ln Σ exp(logit); 0 where masked, so that the z-loss may add all of them.
    public var logSumExp: [Double]
    /// `[E]`: choices of each expert.
    public var counts: [Int]
    /// `[E]`: first choices of each expert.
    public var firstChoiceCounts: [Int]
    /// `[E]`: Σ over tokens of `scores`.
    public var probabilitySums: [Double]
    /// Tokens that took part: T less the masked.
    public var routedTokenCount: Int
  }

  /// logits = x·Wᵀ + b: x `[T, D]`, W `[E, D]`, b `[E]`, logits `[T, E]`.
  public static func logits(_ x: Matrix, _ router: RouterWeights) -> [[Double]] {
    rows(x).map { linear($0, router.weight, bias: router.bias) }
  }

  /// Applies a policy to logits `[T, E]`, step by step as `RoutingPolicy` lists them.
  ///
  /// - Parameters:
  ///   - logits: `[T, E]`.
  ///   - policy: the routing policy.
  ///   - selectionBias: `[E]`, added to what is compared and to nothing else. SparseMixer has none.
  ///   - expertsPerToken: K.
  ///   - expertCount: E, the width of the logits; needed only where there are no tokens to show it.
  ///   - mask: `[T]`, false for a token that takes no part, whose logits are not looked at.
  ///   - noise: of a training pass, in which SparseMixer samples; what was compared are then the noisy logits of a
  ///     token's last choice.
  /// - Throws: `MoEError.notFinite(what:token:)` where a logit is NaN or +∞, or all of a token's are −∞;
  ///   a single −∞ is legal and means probability 0.
  public static func route(
    logits: [[Double]], policy: RoutingPolicy, selectionBias: [Float]? = nil, expertsPerToken: Int,
    expertCount: Int? = nil, mask: [Bool]? = nil, noise: RouterNoise? = nil
  ) throws(MoEError) -> Routing {
    let expertCount = expertCount ?? logits.first?.count ?? selectionBias?.count ?? expertsPerToken
    if case .sparseMixer = policy.scoring, selectionBias != nil {
      throw .invalidConfiguration("SparseMixer compares logits and has no selection bias")
    }
    let bias = selectionBias.map { $0.map(Double.init) } ?? Array(repeating: 0, count: expertCount)
    var routing = Routing(emptyFor: expertCount)
    for (token, row) in logits.enumerated() {
      guard mask?[token] ?? true else {
        routing.appendMaskedToken(expertsPerToken: expertsPerToken)
        continue
      }
      guard row.allSatisfy({ $0 < .infinity }), row.contains(where: { $0 > -.infinity }) else {
        throw .notFinite(what: "the router logit", token: token)
      }
      var selection = selectionScores(row, policy: policy, bias: bias)
      var chosen = topK(selection, count: expertsPerToken)
      if let noise, case .sparseMixer(let jitter) = policy.scoring {
        chosen = []
        for _ in 0..<expertsPerToken {
          selection = sparseMixerNoisyLogits(
            row, after: chosen, jitter: Double(jitter), noise: noise, token: token)
          let free = row.indices.filter { !chosen.contains($0) }
          chosen.append(free.first { expert in free.allSatisfy { selection[$0] <= selection[expert] } }!)
        }
      }
      append(
        row, token: token, chosen: chosen, selection: selection, policy: policy, noise: noise, to: &routing)
    }
    return routing
  }

  /// The routing of experts that something else has chosen, weighed by these logits.
  ///
  /// With the choices of a kernel, near ties that it rounds otherwise do not change what it is judged on; with
  /// the choices of another forward pass, the weights are a differentiable function of the logits.
  ///
  /// - Parameters:
  ///   - expertIDs: `[T, K]`, best first; −1 where masked.
  ///   - logits: `[T, E]`.
  ///   - policy: the routing policy.
  ///   - selectionBias: `[E]`; enters the margins alone.
  ///   - noise: of a training pass; its draws enter SparseMixer's weights, not the margins.
  public static func routing(
    choosing expertIDs: [[Int]], logits: [[Double]], policy: RoutingPolicy, selectionBias: [Float]? = nil,
    noise: RouterNoise? = nil
  ) -> Routing {
    let expertCount = logits.first?.count ?? selectionBias?.count ?? 0
    let bias = selectionBias.map { $0.map(Double.init) } ?? Array(repeating: 0, count: expertCount)
    var routing = Routing(emptyFor: expertCount)
    for (token, (row, chosen)) in zip(logits, expertIDs).enumerated() {
      if chosen.contains(-1) {
        routing.appendMaskedToken(expertsPerToken: chosen.count)
      } else {
        let selection = selectionScores(row, policy: policy, bias: bias)
        append(
          row, token: token, chosen: chosen, selection: selection, policy: policy, noise: noise, to: &routing)
      }
    }
    return routing
  }

  private static func append(
    _ logits: [Double], token: Int, chosen: [Int], selection: [Double], policy: RoutingPolicy,
    noise: RouterNoise?, to routing: inout Routing
  ) {
    routing.append(
      chosen: chosen, weights: weights(logits, token: token, chosen: chosen, policy: policy, noise: noise),
      scores: lossProbabilities(logits, policy: policy), selection: selection, logSumExp: logSumExp(logits))
  }

  /// The indices of the `count` largest values: value descending, then index ascending.
  static func topK(_ values: [Double], count: Int) -> [Int] {
    let order = values.indices.sorted { a, b in
      values[a] != values[b] ? values[a] > values[b] : a < b
    }
    return Array(order.prefix(count))
  }

  /// What one token's experts are compared by: score plus bias, masked outside the best groups.
  private static func selectionScores(_ logits: [Double], policy: RoutingPolicy, bias: [Double]) -> [Double] {
    let scores =
      switch policy.scoring {
      case .softmax: softmax(logits)
      case .sigmoid: logits.map(sigmoid)
      case .softmaxOverSelected, .sigmoidOfSelected, .sparseMixer: logits
      }
    let biased = zip(scores, bias).map { $0 + $1 }
    return policy.groups.map { limited(biased, to: $0) } ?? biased
  }

  /// Masks the experts outside the best groups of consecutive experts; of equal groups the lower wins.
  private static func limited(_ scores: [Double], to limit: RoutingPolicy.GroupLimit) -> [Double] {
    let size = scores.count / limit.count
    let groupScores = (0..<limit.count).map { group in
      let descending = scores[group * size..<(group + 1) * size].sorted(by: >)
      return switch limit.score {
      case .maximum: descending[0]
      case .topTwoSum: descending[0] + descending[1]
      }
    }
    let best = topK(groupScores, count: limit.selected)
    let masked = limit.mask == .zero ? 0 : -Double.infinity
    return scores.indices.map { best.contains($0 / size) ? scores[$0] : masked }
  }

  /// The weights of the chosen experts: unbiased scores, normalised, then scaled.
  private static func weights(
    _ logits: [Double], token: Int, chosen: [Int], policy: RoutingPolicy, noise: RouterNoise?
  ) -> [Double] {
    let raw = rawWeights(logits, token: token, chosen: chosen, scoring: policy.scoring, noise: noise)
    return normalized(raw, by: policy.normalization).map { $0 * Double(policy.scale) }
  }

  /// The scores of the chosen experts, before they are normalised and scaled.
  static func rawWeights(
    _ logits: [Double], token: Int, chosen: [Int], scoring: RoutingPolicy.Scoring, noise: RouterNoise?
  ) -> [Double] {
    switch scoring {
    case .softmax:
      return chosen.map { softmax(logits)[$0] }
    case .sigmoid, .sigmoidOfSelected:
      return chosen.map { sigmoid(logits[$0]) }
    case .softmaxOverSelected:
      return softmax(chosen.map { logits[$0] })
    case .sparseMixer(let jitter):
      let shares = sparseMixerWeights(logits, chosen: chosen, jitter: Double(jitter))
      guard let noise else { return shares }
      return shares.enumerated().map { choice, share in
        share * heunFactor(logits, chosen: chosen, choice: choice, noise: noise, token: token)
      }
    }
  }

  /// Weights over their sum as `normalization` defines it. Where the divisor is 0 there is nothing to share,
  /// and the weights stay 0.
  private static func normalized(
    _ weights: [Double], by normalization: RoutingPolicy.Normalization
  ) -> [Double] {
    let divisor = divisor(of: weights, normalization)
    return divisor == 0 ? weights : weights.map { $0 / divisor }
  }

  /// What `normalization` divides these weights by.
  static func divisor(of weights: [Double], _ normalization: RoutingPolicy.Normalization) -> Double {
    let sum = weights.reduce(0, +)
    return switch normalization {
    case .none: 1.0
    case .sum(plus: let plus): sum + Double(plus)
    case .sumAtLeast(let floor): max(sum, Double(floor))
    }
  }

  /// SparseMixer (Liu et al. 2023; `sparsemixer` of Phi-3.5-MoE on the hub): choice by choice, the weight is the
  /// choice's softmax over the survivors.
  private static func sparseMixerWeights(_ logits: [Double], chosen: [Int], jitter: Double) -> [Double] {
    chosen.indices.map { choice in
      let survivors = sparseMixerSurvivors(logits, chosen: chosen, choice: choice, jitter: jitter)
      return softmax(survivors)[chosen[choice]]
    }
  }

  /// The logits among which one choice of SparseMixer shares, −∞ for the experts that do not survive.
  ///
  /// m is the best logit among the experts not chosen before. Of these, expert e survives unless
  /// (m − sₑ)/max(|sₑ|, m) > 2·jitter.
  static func sparseMixerSurvivors(
    _ logits: [Double], chosen: [Int], choice: Int, jitter: Double
  ) -> [Double] {
    let free = logits.indices.filter { !chosen[..<choice].contains($0) }
    let best = free.reduce(-.infinity) { max($0, logits[$1]) }
    return logits.indices.map { expert in
      let excluded = (best - logits[expert]) / max(abs(logits[expert]), best) > 2 * jitter
      return excluded || !free.contains(expert) ? -.infinity : logits[expert]
    }
  }

  /// What the losses call the probability of each expert.
  private static func lossProbabilities(_ logits: [Double], policy: RoutingPolicy) -> [Double] {
    switch policy.scoring {
    case .softmax, .softmaxOverSelected, .sparseMixer: return softmax(logits)
    case .sigmoid, .sigmoidOfSelected: break
    }
    let scores = logits.map(sigmoid)
    let sum = scores.reduce(0, +)
    return scores.map { $0 / (sum + 1e-20) }
  }
}

extension Reference.Routing {
  /// A routing of no tokens yet.
  fileprivate init(emptyFor expertCount: Int) {
    self.expertCount = expertCount
    (expertIDs, weights, scores, selectionScores) = ([], [], [], [])
    (margins, logSumExp) = ([], [])
    counts = Array(repeating: 0, count: expertCount)
    firstChoiceCounts = counts
    probabilitySums = Array(repeating: 0, count: expertCount)
    routedTokenCount = 0
  }

  fileprivate mutating func append(
    chosen: [Int], weights tokenWeights: [Double], scores tokenScores: [Double], selection: [Double],
    logSumExp tokenLogSumExp: Double
  ) {
    expertIDs.append(chosen)
    weights.append(tokenWeights)
    scores.append(tokenScores)
    selectionScores.append(selection)
    margins.append(Self.margin(selection, chosen: chosen))
    logSumExp.append(tokenLogSumExp)
    for expert in chosen { counts[expert] += 1 }
    firstChoiceCounts[chosen[0]] += 1
    for expert in 0..<expertCount { probabilitySums[expert] += tokenScores[expert] }
    routedTokenCount += 1
  }

  fileprivate mutating func appendMaskedToken(expertsPerToken: Int) {
    expertIDs.append(Array(repeating: -1, count: expertsPerToken))
    weights.append(Array(repeating: 0, count: expertsPerToken))
    scores.append(Array(repeating: 0, count: expertCount))
    selectionScores.append(Array(repeating: 0, count: expertCount))
    margins.append(.infinity)
    logSumExp.append(0)
  }

  /// Two experts at −∞ are tied, so their margin is 0, not NaN.
  private static func margin(_ selection: [Double], chosen: [Int]) -> Double {
    let others = selection.indices.filter { !chosen.contains($0) }
    guard let last = chosen.last, let best = others.map({ selection[$0] }).max() else { return .infinity }
    return selection[last] == best ? 0 : selection[last] - best
  }
}
