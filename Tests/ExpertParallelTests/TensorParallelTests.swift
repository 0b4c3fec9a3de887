import ExpertParallel
import MoE
import MoECore
import SpreadPasses
import TestSupport
import Testing

/// Experts whose F is split over ranks. The sums over F are then made of one sum a part, so results are near those of one
/// rank: routing is the same to the bit, and everything else is off by rounding alone.
@Suite struct TensorParallelTests {
  /// Two orders of summation of n terms differ by at most 2·γ(n)·Σ|terms|; here n is below 200 along every path, sums of
  /// products cancel to no less than 2⁻⁴ of that, and an error passes through at most three products.
  private static let bound = 3 * 2 * Tolerance.gamma(200) * 0x1p4

  @Test(arguments: [(2, 1, 2), (4, 2, 2), (4, 1, 4), (8, 2, 2), (6, 3, 2)])
  func partsOfExpertsAddUp(_ ranks: Int, _ expertParallel: Int, _ parts: Int) throws {
    for seed in UInt64(0)..<12 {
      var layerCase = LayerCase(
        seed: seed, tokenCount: 24, expertCount: 4, expertsPerToken: 2, hiddenSize: 16, feedForwardSize: 32)
      layerCase.batchSize = 1
      layerCase.sequenceLength = 24
      var pass = try SpreadPass(layerCase, ranks: ranks)
      pass.placement = try ExpertPlacement(
        expertCount: 4, rankCount: ranks, expertParallelSize: expertParallel, tensorParallelSize: parts)
      let spread = try pass.spread()
      let one = try pass.one()
      #expect(spread.record == one.record)
      #expect(spread.statistics == one.statistics)
      func near(_ actual: [UInt32], _ expected: [UInt32]) -> Bool {
        Tolerance.relativeRMS(
          actual.map { Double(Float(bitPattern: $0)) }, expected.map { Double(Float(bitPattern: $0)) })
          <= Self.bound
      }
      func near(_ actual: Matrix, _ expected: Matrix) -> Bool {
        near(actual.elements.map(\.bitPattern), expected.elements.map(\.bitPattern))
      }
      #expect(near(spread.output, one.output), "seed \(seed)")
      #expect(near(spread.inputGradient, one.inputGradient), "seed \(seed)")
      #expect(near(spread.gradients.routerWeights.weight, one.gradients.routerWeights.weight), "seed \(seed)")
      for (expert, (actual, expected)) in zip(spread.gradients.experts, one.gradients.experts).enumerated() {
        #expect(near(actual.up, expected.up), "seed \(seed), expert \(expert)")
        #expect(near(actual.down, expected.down), "seed \(seed), expert \(expert)")
        #expect(actual.gate.map { near($0, expected.gate!) } ?? true, "seed \(seed), expert \(expert)")
        #expect(
          actual.downBias.map(Matrix.init(row:)).map { near($0, Matrix(row: expected.downBias!)) } ?? true)
      }
    }
  }

  @Test func aSizeThatDoesNotDivideIsNamed() throws {
    let layerCase = LayerCase(
      seed: 1, tokenCount: 4, expertCount: 2, expertsPerToken: 1, hiddenSize: 8, feedForwardSize: 9)
    let problem = try layerCase.problem()
    #expect(
      throws: MoEError.invalidConfiguration("the feed-forward size 9 does not divide into 2 equal parts")
    ) {
      try LocalCommunicator.run(ranks: 2) { communicator in
        _ = try ExpertParallelLayer(
          problem.configuration, weights: problem.weights, over: communicator,
          placement: ExpertPlacement(
            expertCount: 2, rankCount: 2, expertParallelSize: 1, tensorParallelSize: 2))
      }
    }
    #expect(throws: MoEError.invalidConfiguration("6 ranks do not divide into groups of 2 × 2")) {
      _ = try ExpertPlacement(expertCount: 4, rankCount: 6, expertParallelSize: 2, tensorParallelSize: 2)
    }
  }
}

extension Matrix {
  fileprivate init(row: [Float]) {
    self.init(rows: 1, columns: row.count)
    for (column, value) in row.enumerated() { self[0, column] = value }
  }
}
