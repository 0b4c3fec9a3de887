import MoE
import MoECore
import MoEReference
import TestSupport
import Testing

/// The losses of a record against the oracle's of the same counts and probabilities.
@Suite struct RouterLossTests {
  @Test func lossesMatchOracle() {
    checkProperty(seeds: 0..<120) { layerCase in
      guard layerCase.temperament == .uniform || layerCase.temperament == .skewed else { return }
      let problem = try layerCase.problem()
      let configuration = problem.configuration
      let layer = try MoELayer(configuration, weights: problem.weights)
      let (_, record) = try layer(problem.input, mask: problem.mask)
      let routing = try Reference.route(
        logits: Reference.logits(problem.input.tokens, problem.weights.routerWeights),
        policy: configuration.routing, selectionBias: problem.weights.routerWeights.selectionBias,
        expertsPerToken: configuration.expertsPerToken, expertCount: configuration.expertCount,
        mask: problem.mask)
      let counts = record.counts.map(Int.init)
      let balance =
        configuration.routing.loadBalance == .firstChoice
        ? Reference.Losses.switchTransformer(
          routing.scores, firstChoiceCounts: record.firstChoiceCounts.map(Int.init), coefficient: 0.25,
          mask: problem.mask)
        : Reference.Losses.megatron(
          routing.scores, counts: counts, expertsPerToken: configuration.expertsPerToken, coefficient: 0.25,
          mask: problem.mask)
      try compare(record.loadBalance(coefficient: 0.25), balance, record, routing)
      let z = Reference.Losses.routerZ(
        routing.logSumExp, expertCount: configuration.expertCount, coefficient: 0.5, mask: problem.mask)
      try compare(record.zLoss(coefficient: 0.5), z, record, routing)
      try compare(
        record.loadBalance(coefficient: 0.25) + record.zLoss(coefficient: 0.5), balance + z, record, routing)
    }
  }

  /// Values and gradients agree within γ of the chains that lead to probabilities and ln Σ exp.
  private func compare(
    _ loss: RouterLoss, _ exact: Reference.RouterLoss, _ record: RoutingRecord, _ routing: Reference.Routing
  ) throws {
    let bound = Tolerance.gamma(1000)
    func agrees(_ actual: Double, _ expected: Double) -> Bool {
      abs(actual - expected) <= bound * max(abs(expected), 0x1p-20)
    }
    try ensure(agrees(loss.value, exact.value), "value \(loss.value), expected \(exact.value)")
    for token in 0..<record.tokenCount where record.expertIDs[token * record.expertsPerToken] >= 0 {
      for expert in 0..<record.expertCount {
        let found = loss.gradients.probability.map { Double($0[0, expert]) } ?? 0
        let expected = exact.probabilityGradient[token][expert]
        try ensure(agrees(found, expected), "dL/dP \(found), expected \(expected)")
      }
      let found = Double(loss.gradients.logSumExpFactor) * routing.logSumExp[token]
      try ensure(agrees(found, exact.logSumExpGradient[token]), "dL/dz \(found)")
    }
  }

  @Test func selectionBiasMovesTowardsBalance() throws {
    let logits = try Matrix(rows: 4, columns: 3, elements: [3, 2, 1, 3, 2, 1, 3, 1, 2, 3, 2, 1])
    let record = try RoutingPolicy.topKSoftmax.route(logits: logits, expertsPerToken: 2)
    #expect(record.counts == [4, 3, 1])
    let bias: [Float] = [0.5, 0, -0.5]
    let expected = Reference.Losses.updatedSelectionBias(bias, counts: [4, 3, 1], rate: 0.125)
    #expect(record.updatedSelectionBias(bias, rate: 0.125) == expected)
    #expect(expected == [0.375, -0.125, -0.375])
  }
}
