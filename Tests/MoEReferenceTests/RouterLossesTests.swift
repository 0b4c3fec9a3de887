import MoECore
import MoEReference
import TestSupport
import Testing

private typealias Losses = Reference.Losses

/// Tests of the differences between the losses, of the z-loss, and of the bias that balances without a loss.
@Suite struct RouterLossesTests {
  @Test func switchLossIsThatOfTheRouting() throws {
    let problem = try LayerCase(
      seed: 51, tokenCount: 9, expertCount: 5, expertsPerToken: 2, hiddenSize: 4, feedForwardSize: 3
    ).problem()
    let routing = try Reference.layer(
      problem.input, weights: problem.weights, configuration: problem.configuration
    ).routing
    let first = Losses.switchTransformer(
      routing.scores, firstChoiceCounts: routing.firstChoiceCounts, coefficient: 1)
    #expect(abs(first.value - routing.loadBalanceLoss(.firstChoice)) < 1e-14)
    let all = Losses.megatron(routing.scores, counts: routing.counts, expertsPerToken: 2, coefficient: 1)
    #expect(abs(all.value - routing.loadBalanceLoss(.allChoices)) < 1e-14)
    let z = Losses.routerZ(routing.logSumExp, expertCount: 5, coefficient: 1)
    #expect(abs(z.value - routing.routerZLoss) < 1e-14)
  }

  /// Each position has a different expert, and all sequences are routed alike. The load is balanced over tokens, but
  /// the variance of `seedPositional` is as high as if all tokens had one expert.
  @Test func seedVarianceCannotTellPositionsFromCollapse() {
    func oneHot(_ expert: Int) -> [Double] { (0..<4).map { $0 == expert ? 1 : 0 } }
    let specialised = (0..<8).map { oneHot($0 % 4) }
    let collapsed = (0..<8).map { _ in oneHot(0) }
    let (a, b) = (
      Losses.seedPositional(specialised, sequenceLength: 4),
      Losses.seedPositional(collapsed, sequenceLength: 4)
    )
    #expect(a.value == 0.2 && b.value == 0.2)
    #expect(Losses.varianceOverTokens(specialised).value == 0)
    #expect(Losses.varianceOverTokens(collapsed).value == 0.25)
  }

  /// Two sequences, each routed to a different expert: the batch is balanced, but each sequence is collapsed.
  @Test func sequenceLossSeesWhatTheBatchHides() {
    let p = [[1.0, 0], [1, 0], [0, 1], [0, 1]]
    let ids = [[0], [0], [1], [1]]
    let batch = Losses.counts(ids, expertCount: 2, tokensPerGroup: 4, of: .allChoices)
    let sequences = Losses.counts(ids, expertCount: 2, tokensPerGroup: 2, of: .allChoices)
    #expect(batch == [[2, 2]] && sequences == [[2, 0], [0, 2]])
    #expect(Losses.megatron(p, counts: batch[0], expertsPerToken: 1, coefficient: 1).value == 1)
    let bySequence = Losses.megatronSequence(
      p, counts: sequences, sequenceLength: 2, expertsPerToken: 1, coefficient: 1)
    #expect(bySequence.value == 2)
    // Padding within sequences and a whole third sequence of padding change no loss.
    let padded = Losses.megatronSequence(
      [p[0], p[1], [.nan, .nan], p[2], p[3], [.nan, .nan]] + Array(repeating: [.nan, .nan], count: 3),
      counts: sequences + [[0, 0]], sequenceLength: 3, expertsPerToken: 1, coefficient: 1,
      mask: [true, true, false, true, true, false, false, false, false])
    #expect(padded.value == 2)
  }

  /// The table has two positions. The second is masked in every sequence, so the variance is that of the first.
  @Test func positionsOfPaddingAreNotInTheTable() {
    let p = [[0.75, 0.25], [.nan, .nan], [0.25, 0.75], [.nan, .nan]]
    let mask = [true, false, true, false]
    #expect(Losses.seedPositional(p, sequenceLength: 2, mask: mask).value == 0)
    let first = [[0.75, 0.25], [.nan, .nan]]
    #expect(Losses.seedPositional(first, sequenceLength: 2, mask: [true, false]).value == 0.125)
  }

  @Test func oneExpertHasNoVariance() {
    let p = [[1.0], [1]]
    let losses = [
      Losses.importance(p), Losses.varianceOverTokens(p), Losses.seedPositional(p, sequenceLength: 1),
      Losses.seedPositional(p, sequenceLength: 2),
    ]
    for loss in losses {
      #expect(loss.value == 0)
      #expect(loss.probabilityGradient == [[0], [0]])
    }
  }

  @Test func zLossAndItsGradient() throws {
    let z = [1.5, -2, 100, 3]
    let mask = [true, true, false, true]
    let loss = Losses.routerZ(z, expertCount: 2, coefficient: 0.5, mask: mask)
    #expect(abs(loss.value - 0.5 * (2.25 + 4 + 9) / 3) < 1e-14)
    #expect(loss.logSumExpGradient[2] == 0)
    var judge = DifferenceJudge()
    for token in z.indices {
      try judge.compare(loss.logSumExpGradient[token], magnitude: loss.value, "z[\(token)]") { step in
        var moved = z
        moved[token] += step
        return Losses.routerZ(moved, expertCount: 2, coefficient: 0.5, mask: mask).value
      }
    }
    #expect(judge.skipped == 0)
  }

  @Test func lossesAdd() {
    let p = [[0.75, 0.25]]
    let sum =
      Losses.gshardTop2(p, firstChoiceCounts: [1, 0]) + Losses.routerZ([2], expertCount: 2, coefficient: 1)
    #expect(sum.value == 2 * 0.75 + 4)
    #expect(sum.probabilityGradient == [[2, 0]])
    #expect(sum.logSumExpGradient == [4])
  }

  /// For DeepSeek-V3's loss, a kernel gets one row of coefficients per sequence.
  @Test func aLossMayBeGivenByCoefficientsOfGroups() {
    let p = [[0.75, 0.25], [0.5, 0.5], [0.25, 0.75], [0.125, 0.875]]
    let loss = Losses.deepSeekV3Sequence(
      p, counts: [[2, 0], [1, 1]], sequenceLength: 2, expertsPerToken: 1, coefficient: 1)
    let given = Reference.RouterLoss(
      value: loss.value, coefficients: [[0.5, 0], [0.25, 0.25]], tokensPerGroup: 2, tokenCount: 4)
    #expect(given == loss)
  }

  /// The mean count is 8/3: below it the bias rises, above it falls, and an even load leaves it alone.
  @Test func selectionBiasFollowsTheSignOfTheLoad() {
    let bias: [Float] = [0.5, -1, 0]
    #expect(Losses.updatedSelectionBias(bias, counts: [2, 3, 3], rate: 0.25) == [0.75, -1.25, -0.25])
    #expect(Losses.updatedSelectionBias(bias, counts: [7, 7, 7]) == bias)
    #expect(Losses.updatedSelectionBias(bias, counts: [0, 0, 0]) == bias)
    // The counts differ by one choice, which is too little to show in a mean computed in floats.
    let huge = 1 << 40
    #expect(
      Losses.updatedSelectionBias([0, 0], counts: [huge, huge + 1], rate: 1) == [1, -1])
  }
}
