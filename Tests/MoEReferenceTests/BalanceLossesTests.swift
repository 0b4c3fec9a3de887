import MoECore
import MoEReference
import TestSupport
import Testing

private typealias Losses = Reference.Losses
private typealias RouterLoss = Reference.RouterLoss

/// Tests of the losses of the published systems: at balance and collapse, against differences, and with padding.
@Suite struct BalanceLossesTests {
  private static let (tokenCount, sequenceLength, expertCount, k) = (12, 4, 6, 2)

  /// A loss of probabilities `[T, E]` for choices `[T, K]` and a mask.
  struct Named: CustomTestStringConvertible, Sendable {
    let testDescription: String
    /// The loss when every token takes two experts, evenly spread, with even probabilities.
    let balanced: Double
    /// The loss when every token takes experts 0 and 1 and expert 0 has the probability 1.
    let collapsed: Double
    /// Whether the loss depends on the sequence of a token or on its position in the sequence.
    var seesPositions = false
    let compute: @Sendable ([[Double]], [[Int]], [Bool]?) -> Reference.RouterLoss
  }

  /// Returns the number of choices of each expert in the whole batch, `[E]`.
  private static func counts(_ ids: [[Int]], _ assignments: RoutingPolicy.LoadBalance) -> [Int] {
    let whole = Losses.counts(
      ids, expertCount: expertCount, tokensPerGroup: tokenCount, of: assignments)
    return whole.first ?? Array(repeating: 0, count: expertCount)
  }

  /// Returns the number of choices of each expert in each sequence, `[B, E]`.
  private static func sequenceCounts(_ ids: [[Int]]) -> [[Int]] {
    Losses.counts(ids, expertCount: expertCount, tokensPerGroup: sequenceLength, of: .allChoices)
  }

  static let losses: [Named] = [
    Named(testDescription: "Switch", balanced: 0.01, collapsed: 0.06) { p, ids, mask in
      Losses.switchTransformer(p, firstChoiceCounts: counts(ids, .firstChoice), mask: mask)
    },
    Named(testDescription: "GShard top-2", balanced: 1, collapsed: 6) { p, ids, mask in
      Losses.gshardTop2(p, firstChoiceCounts: counts(ids, .firstChoice), mask: mask)
    },
    Named(testDescription: "DeepSpeed top-1", balanced: 1, collapsed: 6) { p, ids, mask in
      Losses.deepSpeedTop1(p, firstChoiceCounts: counts(ids, .firstChoice), mask: mask)
    },
    Named(testDescription: "DeepSpeed top-2", balanced: 1, collapsed: 6) { p, ids, mask in
      Losses.deepSpeedTop2(p, firstChoiceCounts: counts(ids, .firstChoice), mask: mask)
    },
    Named(testDescription: "DeepSpeed top-k", balanced: 1, collapsed: 3) { p, ids, mask in
      Losses.deepSpeedTopK(p, counts: counts(ids, .allChoices), expertsPerToken: k, mask: mask)
    },
    Named(testDescription: "Megatron", balanced: 0.5, collapsed: 1.5) { p, ids, mask in
      Losses.megatron(
        p, counts: counts(ids, .allChoices), expertsPerToken: k, coefficient: 0.5, mask: mask)
    },
    Named(testDescription: "Megatron, sequences", balanced: 0.5, collapsed: 1.5, seesPositions: true) {
      p, ids, mask in
      Losses.megatronSequence(
        p, counts: sequenceCounts(ids), sequenceLength: sequenceLength,
        expertsPerToken: k, coefficient: 0.5, mask: mask)
    },
    Named(testDescription: "DeepSeek-V3, sequences", balanced: 1e-4, collapsed: 3e-4, seesPositions: true) {
      p, ids, mask in
      Losses.deepSeekV3Sequence(
        p, counts: sequenceCounts(ids), sequenceLength: sequenceLength,
        expertsPerToken: k, mask: mask)
    },
    // Importance (12, 0, 0, 0, 0, 0): variance 24, mean 2.
    Named(testDescription: "importance", balanced: 0, collapsed: 3) { p, _, mask in
      Losses.importance(p, mask: mask)
    },
    // 4 of the 4·6 numbers are 1 and the others are 0: Σ(v − ⅙)² = 4·25/36 + 20/36 = 10/3, divided by 23.
    Named(testDescription: "seed, positional", balanced: 0, collapsed: 10.0 / 69, seesPositions: true) {
      p, _, mask in
      Losses.seedPositional(p, sequenceLength: sequenceLength, mask: mask)
    },
    // The means are (1, 0, 0, 0, 0, 0): 1 − ⅙, divided by 5.
    Named(testDescription: "variance over tokens", balanced: 0, collapsed: 1.0 / 6) { p, _, mask in
      Losses.varianceOverTokens(p, mask: mask)
    },
  ]

  /// Returns random probabilities and the experts that they choose.
  private static func random(seed: UInt64) throws -> (probabilities: [[Double]], ids: [[Int]]) {
    var generator = SeededGenerator(seed: seed)
    let logits = (0..<tokenCount).map { _ in generator.normals(expertCount, deviation: 1).map(Double.init) }
    let routing = try Reference.route(
      logits: logits, policy: RoutingPolicy(scoring: .softmax), expertsPerToken: k)
    return (routing.scores, routing.expertIDs)
  }

  @Test(arguments: losses)
  func atBalance(loss: Named) {
    let even = Array(repeating: Array(repeating: 1.0 / 6, count: 6), count: 12)
    let result = loss.compute(even, (0..<12).map { [$0 % 6, ($0 + 1) % 6] }, nil)
    #expect(abs(result.value - loss.balanced) < 1e-14)
    let gradients = result.probabilityGradient.flatMap { $0 }
    #expect(gradients.allSatisfy { $0.isFinite })
    if loss.balanced == 0 { #expect(gradients.allSatisfy { abs($0) < 1e-15 }) }
  }

  @Test(arguments: losses)
  func atCollapse(loss: Named) {
    let result = loss.compute(
      Array(repeating: [1, 0, 0, 0, 0, 0], count: 12), Array(repeating: [0, 1], count: 12), nil)
    #expect(abs(result.value - loss.collapsed) < 1e-10)
  }

  @Test(arguments: losses)
  func gradientsAreDerivatives(loss: Named) throws {
    var judge = DifferenceJudge()
    let (p, allIDs) = try Self.random(seed: 41)
    for mask in [nil, (0..<12).map { $0 != 1 && $0 != 6 && $0 < 10 }] {
      let ids = allIDs.indices.map { mask?[$0] ?? true ? allIDs[$0] : [-1, -1] }
      let result = loss.compute(p, ids, mask)
      for (token, expert) in p.indices.flatMap({ t in (0..<6).map { (t, $0) } }) {
        try judge.compare(
          result.probabilityGradient[token][expert], magnitude: result.value, "p[\(token), \(expert)]"
        ) { step in
          var moved = p
          moved[token][expert] += step
          return loss.compute(moved, ids, mask).value
        }
      }
    }
    #expect(judge.skipped == 0)
  }

  /// The last sequence is padding, which holds NaN. For losses that ignore positions, the test is repeated with padding
  /// also in the second half of each other sequence.
  @Test(arguments: losses)
  func paddingIsNotThere(loss: Named) throws {
    let (p, ids) = try Self.random(seed: 42)
    for tokensOfSequence in loss.seesPositions ? [4] : [4, 2] {
      let mask = (0..<12).map { $0 < 8 && $0 % 4 < tokensOfSequence }
      let padded = loss.compute(
        (0..<12).map { mask[$0] ? p[$0] : Array(repeating: .nan, count: 6) },
        (0..<12).map { mask[$0] ? ids[$0] : [-1, -1] }, mask)
      let routed = (0..<12).filter { mask[$0] }
      let expected = loss.compute(routed.map { p[$0] }, routed.map { ids[$0] }, nil)
      #expect(padded.value == expected.value)
      #expect(routed.map { padded.probabilityGradient[$0] } == expected.probabilityGradient)
      let ofPadding = (0..<12).filter { !mask[$0] }.flatMap { padded.probabilityGradient[$0] }
      #expect(Set(ofPadding) == [0])
    }
  }

  @Test(arguments: losses)
  func ofNoTokensIsNothing(loss: Named) throws {
    #expect(loss.compute([], [], nil) == .init(value: 0, probabilityGradient: [], logSumExpGradient: []))
    let (p, ids) = try Self.random(seed: 43)
    let masked = loss.compute(p, ids.map { $0.map { _ in -1 } }, Array(repeating: false, count: 12))
    #expect(masked.value == 0)
    #expect(Set(masked.probabilityGradient.flatMap { $0 }) == [0])
  }
}
