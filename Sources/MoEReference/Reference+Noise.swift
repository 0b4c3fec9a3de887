public import MoECore

#if canImport(Darwin)
  import Darwin
#else
  import Glibc
#endif

extension Reference {
  /// Returns a uniform number in (0, 1): (2n + 1)/2²⁴ with n the upper 23 bits of two rounds of SplitMix64. The first
  /// round mixes the seed and the token, the second adds `place`, the number's index within the token.
  static func uniform(_ noise: RouterNoise, token: Int, place: Int) -> Double {
    func draw(_ state: UInt64, _ index: Int) -> UInt64 {
      var generator = SeededGenerator(
        seed: state &+ UInt64(bitPattern: Int64(index)) &* 0x9E37_79B9_7F4A_7C15)
      return generator.next()
    }
    let bits = draw(draw(noise.seed, noise.firstToken &+ token), place)
    return Double(2 * (bits >> 41) + 1) * 0x1p-24
  }

  /// Returns −ln(−ln u), a draw of the Gumbel distribution.
  static func gumbel(_ noise: RouterNoise, token: Int, place: Int) -> Double {
    -log(-log(uniform(noise, token: token, place: place)))
  }

  /// Returns a standard normal draw for one of E experts: Box and Muller's cosine, of the uniform numbers of the choices
  /// 0 and 1.
  static func normal(_ noise: RouterNoise, token: Int, expert: Int, of expertCount: Int) -> Double {
    (-2 * log(uniform(noise, token: token, place: expert))).squareRoot()
      * cos(2 * .pi * uniform(noise, token: token, place: expertCount + 1 + expert))
  }

  /// Returns the values `[E]` by which SparseMixer samples one choice in training: logit plus Gumbel noise for the
  /// experts that compete for the choice, −∞ for the others. The expert with the largest value is sampled.
  ///
  /// - Parameters:
  ///   - logits: the logits `[E]` of one token.
  ///   - chosen: the experts of this token's earlier choices, which do not compete any more.
  ///   - jitter: the strength of SparseMixer's jitter.
  ///   - noise: the noise of the training pass.
  ///   - token: the token's index in the pass.
  public static func sparseMixerNoisyLogits(
    _ logits: [Double], after chosen: [Int], jitter: Double, noise: RouterNoise, token: Int
  ) -> [Double] {
    let survivors = sparseMixerSurvivors(logits, chosen: chosen, choice: chosen.count, jitter: jitter)
    return survivors.enumerated().map { expert, logit in
      let place = chosen.count * (logits.count + 1) + expert
      return logit - log(-log(uniform(noise, token: token, place: place)))
    }
  }

  /// Returns the factor of a sampled choice's weight: 1 if the sampled expert is the best; otherwise 1/3 with
  /// probability 3/4, and 1 in the other cases.
  static func heunFactor(
    _ logits: [Double], chosen: [Int], choice: Int, noise: RouterNoise, token: Int
  ) -> Double {
    let free = logits.indices.filter { !chosen[..<choice].contains($0) }
    let best = free.first { expert in free.allSatisfy { logits[$0] <= logits[expert] } }
    let place = choice * (logits.count + 1) + logits.count
    return best == chosen[choice] || uniform(noise, token: token, place: place) > 0.75 ? 1 : 1.0 / 3
  }

  /// Returns the factors `[D]` of the elements of the router's copy of a token.
  static func inputFactors(
    _ rule: RoutingPolicy.Noise, _ noise: RouterNoise, token: Int, count: Int
  ) -> [Double] {
    (0..<count).map { column in
      let dropout = Double(rule.inputDropout)
      if dropout > 0, uniform(noise, token: token, place: -1 - count - column) < dropout { return 0 }
      let jitter = Double(rule.inputJitter) * (2 * uniform(noise, token: token, place: -1 - column) - 1)
      return (1 + jitter) / (1 - dropout)
    }
  }

  /// Returns the logits `[T, E]` of a training pass, computed from the noisy copy of x. Noise on the logits themselves
  /// is not in them.
  public static func logits(
    _ x: Matrix, _ router: RouterWeights, _ rule: RoutingPolicy.Noise, noise: RouterNoise?
  ) -> [[Double]] {
    guard let noise else { return logits(x, router) }
    return rows(x).enumerated().map { token, row in
      let factors = inputFactors(rule, noise, token: token, count: row.count)
      return linear(zip(row, factors).map { $0 * $1 }, router.weight, bias: router.bias)
    }
  }
}
