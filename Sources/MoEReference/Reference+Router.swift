public import MoECore

#if canImport(Darwin)
  import Darwin
#else
  import Glibc
#endif

extension Reference {
  /// The experts of each token and their weights, before any choice is dropped.
  public struct Routing: Sendable, Equatable {
    /// E, the number of experts.
    public var expertCount: Int
    /// `[T, K]`: each token's experts by selection score descending, then index ascending; −1 for a masked token, and
    /// −2 − e for a second expert e that the rule of the second choice does not take.
    public var expertIDs: [[Int]]
    /// `[T, K]`: the normalised and scaled weights; 0 for a masked token and for an expert that is not taken. Under a
    /// policy that normalises after dropping, they are neither normalised nor scaled yet.
    public var weights: [[Double]]
    /// `[T, K]`: the scores of the chosen experts before they are normalised; 0 for a masked token.
    public var gates: [[Double]]
    /// `[T, E]`: the probabilities that the losses use; 0 for a masked token. For sigmoid scoring they are the sigmoid
    /// scores divided by their sum plus 1e−20; for any other scoring, the softmax over all experts.
    public var scores: [[Double]]
    /// `[T, E]`: the scores by which experts were chosen, after the selection bias and the group mask; 0 for a masked
    /// token.
    public var selectionScores: [[Double]]
    /// `[T]`: the selection score of the last choice minus that of the best expert not chosen; +∞ if every expert is
    /// chosen or the token is masked.
    public var margins: [Double]
    /// `[T]`: ln Σ exp(logit); 0 for a masked token, so that the z-loss may add all elements.
    public var logSumExp: [Double]
    /// `[E]`: the number of choices of each expert.
    public var counts: [Int]
    /// `[E]`: the number of first choices of each expert.
    public var firstChoiceCounts: [Int]
    /// `[E]`: Σ over tokens of `scores`.
    public var probabilitySums: [Double]
    /// The number of tokens that took part: T minus the number of masked tokens.
    public var routedTokenCount: Int
  }

  /// Returns the logits x·Wᵀ + b: x `[T, D]`, W `[E, D]`, b `[E]`, logits `[T, E]`.
  public static func logits(_ x: Matrix, _ router: RouterWeights) -> [[Double]] {
    rows(x).map { linear($0, router.weight, bias: router.bias) }
  }

  /// Applies a policy to logits, in the steps that `RoutingPolicy` lists, except dropping.
  ///
  /// - Parameters:
  ///   - logits: the logits `[T, E]`.
  ///   - policy: the routing policy.
  ///   - selectionBias: the bias `[E]`, added only to the scores by which experts are chosen. SparseMixer has none.
  ///   - expertsPerToken: K, the number of experts per token.
  ///   - expertCount: E, the width of the logits; needed only if `logits` has no rows.
  ///   - mask: the mask `[T]`, false for a masked token, which takes no part and whose logits are not read.
  ///   - noise: the random numbers of a training pass; nil at evaluation. The selection scores are the noisy logits of a
  ///     token's last choice, if that is drawn.
  /// - Throws: `MoEError.notFinite(what:token:)` if a logit is NaN or +∞, or if all logits of a token are −∞. A single
  ///   −∞ is valid and means probability 0. `MoEError.invalidConfiguration(_:)` if SparseMixer has a selection bias.
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
    for (token, given) in logits.enumerated() {
      guard mask?[token] ?? true else {
        routing.appendMaskedToken(expertsPerToken: expertsPerToken)
        continue
      }
      guard given.allSatisfy({ $0 < .infinity }), given.contains(where: { $0 > -.infinity }) else {
        throw .notFinite(what: "the router logit", token: token)
      }
      let row = seenLogits(given, policy: policy, noise: noise, token: token)
      let scores = selectionScores(row, policy: policy, bias: bias)
      var selection = scores
      var chosen: [Int] = []
      for choice in 0..<expertsPerToken {
        selection =
          drawnLogits(row, scores, after: chosen, policy: policy, noise: noise, token: token) ?? scores
        let free = row.indices.filter { !chosen.contains($0) }
        chosen.append(free.first { expert in free.allSatisfy { selection[$0] <= selection[expert] } }!)
        assert(chosen.count == choice + 1)
      }
      append(
        row, token: token, chosen: chosen, selection: selection, policy: policy, noise: noise, to: &routing)
    }
    return routing
  }

  /// Returns the logits as scores and losses see them: scaled, and in training with their noise.
  public static func seenLogits(
    _ logits: [Double], policy: RoutingPolicy, noise: RouterNoise?, token: Int
  ) -> [Double] {
    logits.indices.map { expert in
      let logit = logits[expert] * Double(policy.logitScale)
      guard let noise else { return logit }
      switch policy.noise.logits {
      case .none, .learned: return logit
      case .normal(let deviation):
        return logit + Double(deviation) / Double(logits.count)
          * normal(noise, token: token, expert: expert, of: logits.count)
      case .uniform(let spread):
        let u = uniform(noise, token: token, place: expert)
        return logit + 1 + Double(spread) * (2 * u - 1)
      }
    }
  }

  /// Returns the values `[E]` by which the next choice is drawn, −∞ for experts that cannot be drawn; nil if the choice is
  /// not random.
  private static func drawnLogits(
    _ logits: [Double], _ scores: [Double], after chosen: [Int], policy: RoutingPolicy, noise: RouterNoise?,
    token: Int
  ) -> [Double]? {
    if case .sparseMixer(let jitter) = policy.scoring {
      return noise.map {
        sparseMixerNoisyLogits(logits, after: chosen, jitter: Double(jitter), noise: $0, token: token)
      }
    }
    let temperature: Float
    switch (chosen.count, policy.choice.first, policy.choice.second) {
    case (0, .sampled, _) where noise != nil: temperature = 1
    case (0, .sampledWithTemperature(let given), _) where noise != nil: temperature = given
    case (1, _, .sampled): temperature = 1
    default: return nil
    }
    let isOpen = logits.indices.map { !chosen.contains($0) && scores[$0] > -.infinity }
    if !isOpen.contains(true) { return nil }
    return logits.indices.map { expert in
      let place = chosen.count * (logits.count + 1) + expert
      return isOpen[expert]
        ? logits[expert] / Double(temperature)
          + gumbel(noise ?? RouterNoise(seed: 0), token: token, place: place)
        : -.infinity
    }
  }

  /// Returns the routing for given experts, with weights from `logits`.
  ///
  /// The experts can be those that a kernel chose: if the kernel rounds nearly equal scores differently and so chooses
  /// other experts, its weights can still be compared. They can also be those of another forward pass: the weights are
  /// then a differentiable function of the logits.
  ///
  /// - Parameters:
  ///   - expertIDs: the chosen experts `[T, K]`, best first; −1 for a masked token.
  ///   - logits: the logits `[T, E]`.
  ///   - policy: the routing policy.
  ///   - selectionBias: the selection bias `[E]`, which affects only selection scores and margins.
  ///   - noise: the noise of a training pass, which affects SparseMixer's weights but not the margins.
  public static func routing(
    choosing expertIDs: [[Int]], logits: [[Double]], policy: RoutingPolicy, selectionBias: [Float]? = nil,
    noise: RouterNoise? = nil
  ) -> Routing {
    let expertCount = logits.first?.count ?? selectionBias?.count ?? 0
    let bias = selectionBias.map { $0.map(Double.init) } ?? Array(repeating: 0, count: expertCount)
    var routing = Routing(emptyFor: expertCount)
    for (token, (row, chosen)) in zip(logits, expertIDs).enumerated() {
      // Where experts choose, a token may have fewer experts than K.
      let own = Array(chosen.prefix { $0 != -1 })
      if own.isEmpty {
        routing.appendMaskedToken(expertsPerToken: chosen.count)
      } else {
        let seen = seenLogits(row, policy: policy, noise: noise, token: token)
        let selection = selectionScores(seen, policy: policy, bias: bias)
        append(
          seen, token: token, chosen: own, selection: selection, policy: policy, noise: noise, to: &routing)
        routing.padLastToken(to: chosen.count)
      }
    }
    return routing
  }

  private static func append(
    _ logits: [Double], token: Int, chosen: [Int], selection: [Double], policy: RoutingPolicy,
    noise: RouterNoise?, to routing: inout Routing
  ) {
    var ids = chosen
    let experts = chosen.map(expert(of:))
    var weights = weights(logits, token: token, chosen: experts, policy: policy, noise: noise)
    if chosen == experts, chosen.count > 1,
      !takesSecond(weights[1], of: logits.count, policy: policy, noise: noise, token: token)
    {
      ids[1] = -2 - chosen[1]
    }
    for choice in ids.indices where ids[choice] < 0 { weights[choice] = 0 }
    routing.gates.append(
      rawWeights(logits, token: token, chosen: experts, scoring: policy.scoring, noise: noise))
    routing.append(
      chosen: ids, weights: weights, scores: lossProbabilities(logits, policy: policy), selection: selection,
      logSumExp: logSumExp(logits))
  }

  /// Returns the expert of a choice, also of one that is not taken.
  static func expert(of id: Int) -> Int { id < 0 ? -2 - id : id }

  /// Returns whether the rule of the second choice takes an expert of this weight.
  private static func takesSecond(
    _ weight: Double, of expertCount: Int, policy: RoutingPolicy, noise: RouterNoise?, token: Int
  ) -> Bool {
    switch policy.choice.second {
    case .best, .sampled: return true
    case .above(let threshold): return weight > Double(threshold)
    case .random(let threshold), .randomAfterDropping(let threshold):
      let place = 1 * (expertCount + 1) + expertCount
      let draw = uniform(noise ?? RouterNoise(seed: 0), token: token, place: place)
      return draw < weight / max(Double(threshold), 1e-9)
    }
  }

  /// Returns the indices of the `count` largest values: value descending, then index ascending.
  static func topK(_ values: [Double], count: Int) -> [Int] {
    let order = values.indices.sorted { a, b in
      values[a] != values[b] ? values[a] > values[b] : a < b
    }
    return Array(order.prefix(count))
  }

  /// Returns the scores by which one token's experts are compared: score plus bias, masked outside the best groups.
  private static func selectionScores(_ logits: [Double], policy: RoutingPolicy, bias: [Double]) -> [Double] {
    let scores =
      switch policy.scoring {
      case .softmax: softmax(logits)
      case .sigmoid: logits.map(sigmoid)
      case .squareRootSoftplus: logits.map(squareRootSoftplus)
      case .softmaxOverSelected, .sigmoidOfSelected, .sparseMixer: logits
      }
    let biased = zip(scores, bias).map { $0 + $1 }
    return policy.groups.map { limited(biased, to: $0) } ?? biased
  }

  /// Masks the experts outside the best groups of consecutive experts. Among groups with equal scores, the group with
  /// the lower index wins.
  private static func limited(_ scores: [Double], to limit: RoutingPolicy.GroupLimit) -> [Double] {
    let size = scores.count / limit.count
    let groupScores = (0..<limit.count).map { group in
      let descending = scores[group * size..<(group + 1) * size].sorted(by: >)
      return switch limit.score {
      case .maximum: descending[0]
      case .topTwoSum: descending[0] + descending[1]
      case .sum(let count): descending.prefix(count).reduce(0, +)
      }
    }
    let best = topK(groupScores, count: limit.selected)
    let masked = limit.mask == .zero ? 0 : -Double.infinity
    return scores.indices.map { best.contains($0 / size) ? scores[$0] : masked }
  }

  /// Returns the weights of the chosen experts: their unbiased scores, normalised, then scaled.
  private static func weights(
    _ logits: [Double], token: Int, chosen: [Int], policy: RoutingPolicy, noise: RouterNoise?
  ) -> [Double] {
    let raw = rawWeights(logits, token: token, chosen: chosen, scoring: policy.scoring, noise: noise)
    if policy.normalizationTime == .afterDropping { return raw }
    return normalized(raw, by: policy.normalization).map { $0 * Double(policy.scale) }
  }

  /// Returns the unbiased scores of the chosen experts, before they are normalised and scaled.
  static func rawWeights(
    _ logits: [Double], token: Int, chosen: [Int], scoring: RoutingPolicy.Scoring, noise: RouterNoise?
  ) -> [Double] {
    switch scoring {
    case .softmax:
      return chosen.map { softmax(logits)[$0] }
    case .sigmoid, .sigmoidOfSelected:
      return chosen.map { sigmoid(logits[$0]) }
    case .squareRootSoftplus:
      return chosen.map { squareRootSoftplus(logits[$0]) }
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

  /// Returns the weights divided by the divisor that `normalization` defines. If the divisor is 0, all weights are 0
  /// and stay 0.
  private static func normalized(
    _ weights: [Double], by normalization: RoutingPolicy.Normalization
  ) -> [Double] {
    let divisor = divisor(of: weights, normalization)
    return divisor == 0 ? weights : weights.map { $0 / divisor }
  }

  /// Returns the divisor of the weights that `normalization` defines.
  static func divisor(of weights: [Double], _ normalization: RoutingPolicy.Normalization) -> Double {
    let sum = weights.reduce(0, +)
    return switch normalization {
    case .none: 1.0
    case .sum(plus: let plus): sum + Double(plus)
    case .sumAtLeast(let floor): max(sum, Double(floor))
    case .norm(let power): pow(weights.reduce(0) { $0 + pow($1, Double(power)) }, 1 / Double(power))
    }
  }

  /// Returns the weights `[T, K]` as applied: 0 for a choice without a slot. Under a policy that normalises after
  /// dropping, those of the other choices are normalised and scaled.
  public static func appliedWeights(
    _ weights: [[Double]], slots: [[Int]], policy: RoutingPolicy
  ) -> [[Double]] {
    zip(weights, slots).map { weights, slots in
      let kept = zip(weights, slots).map { $1 < 0 ? 0 : $0 }
      if policy.normalizationTime == .beforeDropping { return kept }
      return normalized(kept, by: policy.normalization).map { $0 * Double(policy.scale) }
    }
  }

  /// Returns √(ln(1 + eˣ)).
  static func squareRootSoftplus(_ x: Double) -> Double { (max(x, 0) + log1p(exp(-abs(x)))).squareRoot() }

  /// Returns SparseMixer's weights (Liu et al. 2023; `sparsemixer` of Phi-3.5-MoE on the hub). The weight of each
  /// choice is the chosen expert's share in the softmax over the survivors.
  private static func sparseMixerWeights(_ logits: [Double], chosen: [Int], jitter: Double) -> [Double] {
    chosen.indices.map { choice in
      let survivors = sparseMixerSurvivors(logits, chosen: chosen, choice: choice, jitter: jitter)
      return softmax(survivors)[chosen[choice]]
    }
  }

  /// Returns the logits `[E]` of the survivors, which are the experts that compete for one choice of SparseMixer;
  /// −∞ for all other experts.
  ///
  /// m is the best logit among the experts not chosen before, and sₑ is the logit of expert e. An expert that was not
  /// chosen before survives unless (m − sₑ)/max(|sₑ|, m) > 2·jitter.
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

  /// Returns the probability of each expert that the losses use.
  private static func lossProbabilities(_ logits: [Double], policy: RoutingPolicy) -> [Double] {
    switch policy.scoring {
    case .softmax, .softmaxOverSelected, .sparseMixer: return softmax(logits)
    case .sigmoid, .sigmoidOfSelected, .squareRootSoftplus: break
    }
    let scores = logits.map(policy.scoring == .squareRootSoftplus ? squareRootSoftplus : sigmoid)
    let sum = scores.reduce(0, +)
    return scores.map { $0 / (sum + 1e-20) }
  }
}

extension Reference.Routing {
  /// Makes a routing without tokens.
  fileprivate init(emptyFor expertCount: Int) {
    self.expertCount = expertCount
    (expertIDs, weights, gates, scores, selectionScores) = ([], [], [], [], [])
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
    for expert in chosen where expert >= 0 { counts[expert] += 1 }
    firstChoiceCounts[chosen[0]] += 1
    for expert in 0..<expertCount { probabilitySums[expert] += tokenScores[expert] }
    routedTokenCount += 1
  }

  /// Fills up the last token's choices with −1 and weights of 0.
  fileprivate mutating func padLastToken(to count: Int) {
    let token = expertIDs.count - 1
    let missing = count - expertIDs[token].count
    expertIDs[token] += Array(repeating: -1, count: missing)
    weights[token] += Array(repeating: 0, count: missing)
    gates[token] += Array(repeating: 0, count: missing)
  }

  fileprivate mutating func appendMaskedToken(expertsPerToken: Int) {
    expertIDs.append(Array(repeating: -1, count: expertsPerToken))
    weights.append(Array(repeating: 0, count: expertsPerToken))
    gates.append(Array(repeating: 0, count: expertsPerToken))
    scores.append(Array(repeating: 0, count: expertCount))
    selectionScores.append(Array(repeating: 0, count: expertCount))
    margins.append(.infinity)
    logSumExp.append(0)
  }

  /// Returns the margin of one token. Two experts with the score −∞ are tied, so their margin is 0, not NaN.
  private static func margin(_ selection: [Double], chosen: [Int]) -> Double {
    let experts = chosen.map(Reference.expert(of:))
    let others = selection.indices.filter { !experts.contains($0) }
    guard let last = experts.last, let best = others.map({ selection[$0] }).max() else { return .infinity }
    return selection[last] == best ? 0 : selection[last] - best
  }
}
