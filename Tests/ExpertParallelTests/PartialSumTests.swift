import ExpertParallel
import MoE
import MoECore
import SpreadPasses
import TestSupport
import Testing

/// Rows that ranks add up before they return: routing is that of one rank to the bit, and all else near it.
@Suite struct PartialSumTests {
  /// Two orders of at most 4 terms differ by 2·γ(4)·Σ|terms|; sums over the batch carry such errors on. Terms cancel to no
  /// less than 2⁻⁶ of that.
  private static let bound = 2 * Tolerance.gamma(4 + 24) * 0x1p6

  @Test(arguments: [(1, 1), (2, 1), (2, 4), (3, 1), (4, 3), (8, 2)])
  func sumsAreNearThoseOfOneRank(_ ranks: Int, _ slices: Int) throws {
    for seed in UInt64(0)..<16 {
      var layerCase = LayerCase(
        seed: seed, tokenCount: 24, expertCount: 6, expertsPerToken: 4, hiddenSize: 16, feedForwardSize: 16)
      layerCase.policy = .topKSoftmax
      layerCase.denseBranch = seed % 2 == 0 ? nil : .gatedShared(feedForwardSize: 16)
      if seed % 3 == 0 {
        layerCase.policy.capacity = .init(
          rule: .exact(numerator: 3, denominator: 4, minimum: 1), priority: .tokenThenChoice, scope: .batch)
      }
      var pass = try SpreadPass(layerCase, ranks: ranks)
      pass.exchange = ExchangeOptions(overlap: .slices(slices), returned: .partialSums)
      if ranks == 4 {
        pass.placement = try ExpertPlacement(
          expertCount: 6, rankCount: 4, expertParallelSize: 2, tensorParallelSize: 2)
      }
      let spread = try pass.spread()
      let one = try pass.one()
      #expect(spread.record == one.record)
      func near(_ actual: [Float], _ expected: [Float]) -> Bool {
        Tolerance.relativeRMS(actual.map(Double.init), expected.map(Double.init)) <= Self.bound
      }
      func floats(_ bits: [UInt32]) -> [Float] { bits.map(Float.init(bitPattern:)) }
      #expect(near(floats(spread.output), floats(one.output)), "seed \(seed)")
      #expect(near(floats(spread.inputGradient), floats(one.inputGradient)), "seed \(seed)")
      #expect(
        near(spread.gradients.routerWeights.weight.elements, one.gradients.routerWeights.weight.elements),
        "seed \(seed)")
      for (actual, expected) in zip(spread.gradients.experts, one.gradients.experts) {
        #expect(near(actual.up.elements, expected.up.elements), "seed \(seed)")
        #expect(near(actual.down.elements, expected.down.elements), "seed \(seed)")
      }
    }
  }

  /// The order of a sum is that of the experts, whatever the slices.
  @Test func slicesChangeNoSum() throws {
    let layerCase = LayerCase(
      seed: 4, tokenCount: 32, expertCount: 8, expertsPerToken: 4, hiddenSize: 16, feedForwardSize: 16)
    var results: [PassResult] = []
    for slices in [1, 2, 5] {
      var pass = try SpreadPass(layerCase, ranks: 2)
      pass.exchange = ExchangeOptions(overlap: .slices(slices), returned: .partialSums)
      results.append(try pass.spread())
    }
    for result in results.dropFirst() {
      let difference = result.difference(from: results[0])
      #expect(difference == nil)
    }
  }

  @Test func layersWithoutPartialSumsAreRefused() throws {
    var layerCase = LayerCase(
      seed: 1, tokenCount: 4, expertCount: 2, expertsPerToken: 1, hiddenSize: 8, feedForwardSize: 8)
    layerCase.denseBranch = .residual(feedForwardSize: 8)
    let problem = try layerCase.problem()
    #expect(throws: MoEError.self) {
      try LocalCommunicator.run(ranks: 2) { communicator in
        _ = try ExpertParallelLayer(
          problem.configuration, weights: problem.weights, over: communicator,
          exchange: ExchangeOptions(overlap: .automatic, returned: .partialSums))
      }
    }
  }
}
