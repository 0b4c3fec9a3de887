import MoE
import MoEReference
import TestSupport
import Testing

/// The whole layer against the oracle, which is given the kernel's own routes: near ties that fp32 decides
/// otherwise are judged by `RouterTests`.
@Suite struct LayerTests {
  /// The output's relative RMS error is at most γ of the longest chain: D for the logits and the first product,
  /// F for the second, K for the sum over experts, and 32 for softmax, activation and weights.
  static func bound(_ configuration: MoEConfiguration) -> Double {
    let branch = configuration.denseBranch?.feedForwardSize ?? 0
    return Tolerance.gamma(
      2 * configuration.hiddenSize + configuration.feedForwardSize + branch + configuration.expertsPerToken
        + 32)
  }

  @Test(arguments: InstructionSet.supported)
  func layerMatchesOracle(_ instructionSet: InstructionSet) throws {
    checkProperty(seeds: 0..<200) { layerCase in
      let problem = try layerCase.problem()
      let layer = try MoELayer(problem.configuration, weights: problem.weights)
      let (output, record) = try layer(
        problem.input, mask: problem.mask,
        execution: Execution(instructionSet: instructionSet, threadCount: 2))
      let expected = try expectation(problem, following: record)
      let error = Tolerance.relativeRMS(
        output.tokens.elements.map(Double.init), expected.output.flatMap { $0 })
      try ensure(
        error <= Self.bound(problem.configuration), "relative RMS error \(error) on \(instructionSet)")
      try ensure(
        record.slots.map(Int.init) == expected.permutation.slots.flatMap { $0 }, "slots differ")
    }
  }
}

/// The oracle's output for the routes that a kernel chose.
func expectation(
  _ problem: LayerProblem, following record: RoutingRecord, precision: Reference.Precision = .exact
) throws -> Reference.LayerOutput {
  let configuration = problem.configuration
  var routing = try Reference.route(
    logits: Reference.logits(problem.input.tokens, problem.weights.routerWeights),
    policy: configuration.routing, selectionBias: problem.weights.routerWeights.selectionBias,
    expertsPerToken: configuration.expertsPerToken, expertCount: configuration.expertCount,
    mask: problem.mask)
  for token in 0..<record.tokenCount {
    for choice in 0..<record.expertsPerToken {
      let index = token * record.expertsPerToken + choice
      routing.expertIDs[token][choice] = Int(record.expertIDs[index])
      // A dropped choice has lost its weight in the record; the oracle drops it again.
      if record.slots[index] >= 0 { routing.weights[token][choice] = Double(record.expertWeights[index]) }
    }
  }
  return try Reference.layer(
    problem.input, weights: problem.weights, configuration: configuration, routing: routing,
    precision: precision)
}
