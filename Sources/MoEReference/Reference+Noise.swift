public import MoECore

#if canImport(Darwin)
  import Darwin
#else
  import Glibc
#endif

extension Reference {
  /// (2n + 1)/2²⁴, n the upper 23 bits of two rounds of SplitMix64: of seed and token, then of place. In (0, 1).
  static func uniform(_ noise: RouterNoise, token: Int, place: Int) -> Double {
    func draw(_ state: UInt64, _ index: Int) -> UInt64 {
      var generator = SeededGenerator(
        seed: state &+ UInt64(bitPattern: Int64(index)) &* 0x9E37_79B9_7F4A_7C15)
      return generator.next()
    }
    let bits = draw(draw(noise.seed, noise.firstToken &+ token), place)
    return Double(2 * (bits >> 41) + 1) * 0x1p-24
  }

  /// What SparseMixer compares in training for one choice: logit plus Gumbel noise of the experts that share the choice,
  /// −∞ for the others. The largest is the sample.
  ///
  /// - Parameters:
  ///   - logits: `[E]`, of one token.
  ///   - chosen: the experts of this token's earlier choices, which share no more.
  ///   - jitter: the strength of SparseMixer's jitter.
  ///   - noise: the seed of the pass.
  ///   - token: its index in the pass.
  public static func sparseMixerNoisyLogits(
    _ logits: [Double], after chosen: [Int], jitter: Double, noise: RouterNoise, token: Int
  ) -> [Double] {
    let survivors = sparseMixerSurvivors(logits, chosen: chosen, choice: chosen.count, jitter: jitter)
    return survivors.enumerated().map { expert, logit in
      let place = chosen.count * (logits.count + 1) + expert
      return logit - log(-log(uniform(noise, token: token, place: place)))
    }
  }

  /// What the weight of a sampled choice is multiplied by: 1 where it is the best, otherwise 1/3 with probability 3/4.
  static func heunFactor(
    _ logits: [Double], chosen: [Int], choice: Int, noise: RouterNoise, token: Int
  ) -> Double {
    let free = logits.indices.filter { !chosen[..<choice].contains($0) }
    let best = free.first { expert in free.allSatisfy { logits[$0] <= logits[expert] } }
    let place = choice * (logits.count + 1) + logits.count
    return best == chosen[choice] || uniform(noise, token: token, place: place) > 0.75 ? 1 : 1.0 / 3
  }

  /// `[D]`: what the columns of the router's copy of a token are multiplied by.
  static func inputFactors(_ noise: RouterNoise, token: Int, count: Int) -> [Double] {
    (0..<count).map { column in
      1 + Double(noise.inputJitter) * (2 * uniform(noise, token: token, place: -1 - column) - 1)
    }
  }

  /// `[T, E]`: the logits of a training pass, of the jittered copy of x.
  public static func logits(_ x: Matrix, _ router: RouterWeights, noise: RouterNoise?) -> [[Double]] {
    guard let noise, noise.inputJitter > 0 else { return logits(x, router) }
    return rows(x).enumerated().map { token, row in
      let factors = inputFactors(noise, token: token, count: row.count)
      return linear(zip(row, factors).map { $0 * $1 }, router.weight, bias: router.bias)
    }
  }
}
