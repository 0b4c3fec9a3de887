public import MoECore

#if canImport(Darwin)
  import Darwin
#else
  import Glibc
#endif

extension Reference {
  /// The result of ``tokenByToken(_:weights:configuration:mask:precision:)``.
  public struct TokenByTokenOutput: Sendable, Equatable {
    /// The output `[T, D]`.
    public var output: [[Double]]
    /// `[T, K]`: the chosen experts, best first; −1 for a masked token.
    public var expertIDs: [[Int]]
    /// `[T, K]`: the weights as applied; 0 for a dropped choice and for a masked token.
    public var appliedWeights: [[Double]]
    /// `[T, K]`: whether the choice was kept.
    public var kept: [[Bool]]
  }

  /// Computes the layer from its definition, one token after another. It does not group, sort or permute.
  ///
  /// It shares no code with the stages, so an error in one of the two makes their results differ. It compares all pairs
  /// instead of using faster algorithms. It keeps a choice if fewer than C claims on its expert precede it (C is the
  /// capacity), and it takes an expert as the best if no other expert has a larger score.
  public static func tokenByToken(
    _ x: Activations, weights: MoEWeights, configuration: MoEConfiguration, mask: [Bool]? = nil,
    precision: Precision = .exact
  ) throws -> TokenByTokenOutput {
    var (ids, shares, gates) = ([[Int]](), [[Double]](), [[Double]]())
    for t in 0..<x.tokenCount {
      if let mask, !mask[t] {
        ids.append(Array(repeating: -1, count: configuration.expertsPerToken))
        shares.append(Array(repeating: 0, count: configuration.expertsPerToken))
        gates.append(shares[t])
        continue
      }
      let choices = try naiveChoices(token: t, of: x.tokens, weights.routerWeights, configuration)
      ids.append(choices.map(\.expert))
      shares.append(choices.map(\.weight))
      gates.append(choices.map(\.gate))
    }
    let kept = naiveKept(
      ids: ids, shares: shares, gates: gates, sequenceLength: x.sequenceLength, configuration)
    if configuration.routing.normalizationTime == .afterDropping {
      for t in shares.indices {
        let left = shares[t].indices.map { kept[t][$0] ? shares[t][$0] : 0 }
        shares[t] = naiveDivided(left, configuration.routing.normalization).map {
          $0 * Double(configuration.routing.scale)
        }
      }
    }
    var output: [[Double]] = []
    for t in 0..<x.tokenCount {
      let row = (0..<configuration.hiddenSize).map { Double(x.tokens[t, $0]) }
      var y = row.map { _ in 0.0 }
      for s in ids[t].indices where kept[t][s] {
        let inside = configuration.routing.weightPlacement == .input ? shares[t][s] : 1
        let outside = configuration.routing.weightPlacement == .input ? 1 : shares[t][s]
        let expert = weights.experts[ids[t][s]]
        let z = naiveNetwork(row.map { $0 * inside }, expert, configuration.activation, precision)
        for d in y.indices { y[d] += outside * z[d] }
      }
      output.append(naiveDense(row, experts: y, weights, configuration, precision))
    }
    let applied = shares.indices.map { t in
      shares[t].indices.map { kept[t][$0] ? shares[t][$0] : 0 }
    }
    return TokenByTokenOutput(output: output, expertIDs: ids, appliedWeights: applied, kept: kept)
  }

  /// Returns the experts of one token, best first, with their weights, and their scores before these are normalised.
  private static func naiveChoices(
    token: Int, of x: Matrix, _ router: RouterWeights, _ configuration: MoEConfiguration
  ) throws(MoEError) -> [(expert: Int, weight: Double, gate: Double)] {
    let (policy, count) = (configuration.routing, configuration.expertCount)
    var l: [Double] = []
    for e in 0..<count {
      var sum = 0.0
      for d in 0..<x.columns { sum += Double(x[token, d]) * Double(router.weight[e, d]) }
      if let bias = router.bias { sum += Double(bias[e]) }
      l.append(sum * Double(policy.logitScale))
    }
    if l.contains(where: { $0.isNaN || $0 == .infinity }) || l.allSatisfy({ $0 == -.infinity }) {
      throw .notFinite(what: "the router logit", token: token)
    }

    let p =
      switch policy.scoring {
      case .softmax: l.map { exp($0 - l.max()!) / l.map { exp($0 - l.max()!) }.reduce(0, +) }
      case .sigmoid: l.map { 1 / (1 + exp(-$0)) }
      case .squareRootSoftplus: l.map { ($0 > 0 ? $0 + log1p(exp(-$0)) : log1p(exp($0))).squareRoot() }
      case .softmaxOverSelected, .sigmoidOfSelected, .sparseMixer: l
      }
    var v = p
    if let bias = router.selectionBias { for e in v.indices { v[e] += Double(bias[e]) } }
    if let limit = policy.groups {
      let size = count / limit.count
      let addends = [.maximum: 1, .topTwoSum: 2][limit.score] ?? limit.score.addends
      let groupScores = (0..<limit.count).map { g in
        var members = Array(v[g * size..<g * size + size])
        var sum = 0.0
        for _ in 0..<addends { sum += members.remove(at: members.firstIndex(of: members.max()!)!) }
        return sum
      }
      for e in v.indices {
        let mine = e / size
        let ahead = (0..<limit.count).filter {
          groupScores[$0] > groupScores[mine] || groupScores[$0] == groupScores[mine] && $0 < mine
        }
        if ahead.count >= limit.selected { v[e] = limit.mask == .zero ? 0 : -.infinity }
      }
    }

    var chosen: [Int] = []
    while chosen.count < configuration.expertsPerToken {
      let free = (0..<count).filter { !chosen.contains($0) }
      let open = free.filter { v[$0] > -.infinity }
      if chosen.count == 1, policy.choice.second == .sampled, !open.isEmpty {
        let noisy = (0..<count).map {
          l[$0] - log(-log(uniform(RouterNoise(seed: 0), token: token, place: count + 1 + $0)))
        }
        chosen.append(open.first { e in open.allSatisfy { noisy[$0] <= noisy[e] } }!)
      } else {
        chosen.append(free.first { e in free.allSatisfy { v[$0] <= v[e] } }!)
      }
    }
    var w = chosen.indices.map { s in
      switch policy.scoring {
      case .softmax, .sigmoid, .squareRootSoftplus: p[chosen[s]]
      case .sigmoidOfSelected: 1 / (1 + exp(-l[chosen[s]]))
      case .softmaxOverSelected: naiveShare(of: l[chosen[s]], among: chosen.map { l[$0] })
      case .sparseMixer(let jitter):
        naiveShare(
          of: l[chosen[s]],
          among: (0..<count).filter { e in
            !chosen[..<s].contains(e)
              && !((l[chosen[s]] - l[e]) / max(abs(l[e]), l[chosen[s]]) > 2 * Double(jitter))
          }.map { l[$0] })
      }
    }
    let gates = w
    if policy.normalizationTime == .beforeDropping {
      w = naiveDivided(w, policy.normalization).map { $0 * Double(policy.scale) }
    }
    if w.count > 1 {
      let draw = uniform(RouterNoise(seed: 0), token: token, place: 2 * count + 1)
      let isTaken =
        switch policy.choice.second {
        case .best, .sampled: true
        case .above(let threshold): w[1] > Double(threshold)
        case .random(let threshold), .randomAfterDropping(let threshold):
          draw < w[1] / max(Double(threshold), 1e-9)
        }
      if !isTaken { (chosen[1], w[1]) = (-2 - chosen[1], 0) }
    }
    return chosen.indices.map { (chosen[$0], w[$0], gates[$0]) }
  }

  /// Returns the weights over their sum or norm; weights that are all 0 stay 0.
  private static func naiveDivided(
    _ w: [Double], _ normalization: RoutingPolicy.Normalization
  ) -> [Double] {
    let total = w.reduce(0, +)
    if total == 0 { return w }
    switch normalization {
    case .none: return w
    case .sum(plus: let plus): return w.map { $0 / (total + Double(plus)) }
    case .sumAtLeast(let floor): return w.map { $0 / max(total, Double(floor)) }
    case .norm(let p): return w.map { $0 / pow(w.map { pow($0, Double(p)) }.reduce(0, +), 1 / Double(p)) }
    }
  }

  /// Returns e^l / Σ e^m over all m of `logits`, which include l; 0 if l is −∞.
  private static func naiveShare(of l: Double, among logits: [Double]) -> Double {
    if l == -.infinity { return 0 }
    return 1 / logits.map { exp($0 - l) }.reduce(0, +)
  }

  /// Returns for each choice whether it is kept: fewer than C claims on its expert in its scope precede it, with C the
  /// capacity.
  private static func naiveKept(
    ids: [[Int]], shares: [[Double]], gates: [[Double]], sequenceLength: Int,
    _ configuration: MoEConfiguration
  ) -> [[Bool]] {
    guard let limit = configuration.routing.capacity else { return ids.map { $0.map { $0 >= 0 } } }
    let scope =
      switch limit.scope {
      case .batch: ids.count
      case .sequence: sequenceLength
      case .group(let size): min(size, ids.count)
      }
    let capacity = limit.rule.capacity(
      tokenCount: scope, expertCount: configuration.expertCount,
      expertsPerToken: configuration.expertsPerToken)
    if limit.priority == .nextChoice {
      var kept = ids.map { $0.map { _ in false } }
      for s in 0..<configuration.expertsPerToken {
        for t in ids.indices where ids[t][s] >= 0 && !kept[t].contains(true) {
          let rivals = ids.indices.filter { $0 / scope == t / scope }
          let rows = rivals.reduce(0) { sum, u in
            sum + ids[u].indices.count { ids[u][$0] == ids[t][s] && kept[u][$0] }
          }
          kept[t][s] = rows < capacity
        }
      }
      return kept
    }
    func draw(_ t: Int, _ s: Int) -> Double {
      let place = s * (configuration.expertCount + 1) + ids[t][s]
      return uniform(RouterNoise(seed: 0), token: t, place: place)
    }
    return ids.indices.map { t in
      ids[t].indices.map { s in
        if ids[t][s] < 0 { return false }
        var before = 0
        for u in ids.indices where u / scope == t / scope {
          // A second choice that is left out after dropping has claimed its row.
          let claimsUntaken = configuration.routing.choice.second.isDecidedLater
          for r in ids[u].indices
          where ids[u][r] == ids[t][s] || claimsUntaken && -2 - ids[u][r] == ids[t][s] {
            let earlier = u < t || u == t && r < s
            let precedes =
              switch limit.priority {
              case .choiceThenToken: r < s || r == s && u < t
              case .tokenThenChoice: earlier
              case .weight: shares[u][r] > shares[t][s] || shares[u][r] == shares[t][s] && earlier
              case .gate: gates[u][r] > gates[t][s] || gates[u][r] == gates[t][s] && earlier
              case .random: draw(u, r) > draw(t, s) || draw(u, r) == draw(t, s) && earlier
              case .batchPrioritized:
                r < s || r == s && (gates[u][0] > gates[t][0] || gates[u][0] == gates[t][0] && u < t)
              case .nextChoice: false
              }
            if precedes { before += 1 }
          }
        }
        return before < capacity
      }
    }
  }

  /// Returns the output of one network for one row, computed one element after another.
  private static func naiveNetwork(
    _ x: [Double], _ n: FeedForwardWeights, _ function: ActivationFunction, _ precision: Precision
  ) -> [Double] {
    func element(_ row: Int, of w: Matrix, _ x: [Double], _ bias: [Float]?) -> Double {
      var sum = 0.0
      for k in x.indices { sum += precision.rounded(x[k]) * precision.rounded(Double(w[row, k])) }
      return sum + Double(bias.map { $0[row] } ?? 0)
    }
    func normal(_ a: Double) -> Double { a * (1 + erf(a * 0.5.squareRoot())) / 2 }
    func tanhForm(_ a: Double) -> Double {
      a * (1 + tanh(0.7978845608028654 * (a + 0.044715 * pow(a, 3)))) / 2
    }
    let h = (0..<n.up.rows).map { f in
      let u = element(f, of: n.up, x, n.upBias)
      let g = n.gate.map { element(f, of: $0, x, n.gateBias) } ?? .nan
      switch function {
      case .relu: return u > 0 ? u : 0
      case .gelu: return normal(u)
      case .geluTanh: return tanhForm(u)
      case .swiGLU: return g / (1 + exp(-g)) * u
      case .geGLU: return normal(g) * u
      case .geGLUTanh: return tanhForm(g) * u
      case .clampedSwiGLU(let alpha, let limit):
        let (c, b) = (min(g, Double(limit)), max(-Double(limit), min(Double(limit), u)))
        return (b + 1) * c / (1 + exp(-Double(alpha) * c))
      }
    }
    return (0..<n.down.rows).map { element($0, of: n.down, h, n.downBias) }
  }

  /// Adds the dense branch, if the layer has one, to the experts' sum.
  private static func naiveDense(
    _ x: [Double], experts y: [Double], _ weights: MoEWeights, _ configuration: MoEConfiguration,
    _ precision: Precision
  ) -> [Double] {
    guard let branch = configuration.denseBranch else { return y }
    let z = naiveNetwork(x, weights.dense!, configuration.activation, precision)
    func gate(_ row: Int) -> Double {
      var sum = Double(weights.denseGate!.bias?[row] ?? 0)
      for d in x.indices { sum += x[d] * Double(weights.denseGate!.weight[row, d]) }
      return sum
    }
    let (a, b) =
      switch branch {
      case .shared: (1.0, 1.0)
      case .gatedShared: (1.0, 1 / (1 + exp(-gate(0))))
      // With two logits, the softmax of one is the sigmoid of its difference from the other.
      case .residual: (1 / (1 + exp(gate(1) - gate(0))), 1 / (1 + exp(gate(0) - gate(1))))
      }
    return y.indices.map { a * y[$0] + b * z[$0] }
  }
}
