import MoE
import MoECore
import MoEReference
import TestSupport
import Testing

/// The whole layer against the oracle, which gets the kernel's own routes. `RouterTests` judge near ties that fp32
/// decides differently.
@Suite struct LayerTests {
  /// Returns the bound of √(Σ(actual − expected)²), as a share of √(Σ expected²) and in absolute terms.
  ///
  /// The share is γ of the longest chain: D for a gate's logits and D for the first product, F for the second, K for
  /// the sum over experts, and 32 for softmax, activation and weights. In bfloat16 a hidden value that fp32 rounds to
  /// the other neighbour has an error of 2⁻⁷ of itself. So has a row that a weight has multiplied, and this error
  /// reaches gate and up projection.
  ///
  /// A gated activation multiplies two small numbers: with activations of 2⁻¹³³ all of h underflows. One step may lose
  /// less than 2⁻¹²⁶ (VDPBF16PS flushes; σ is 0 below e^−88.7), times weights near 1, once for each term of the chains.
  static func bound(
    _ configuration: MoEConfiguration, _ precision: Precision
  ) -> (relative: Double, absolute: Double) {
    let branch = configuration.denseBranch?.feedForwardSize ?? 0
    let chain =
      2 * configuration.hiddenSize + configuration.feedForwardSize + branch + configuration.expertsPerToken
      + 32
    let roundings = configuration.routing.weightPlacement == .input ? 3.0 : 1.0
    let narrow = precision == .bfloat16 ? roundings * 2 * Tolerance.bfloat16Roundoff : 0
    return (Tolerance.gamma(chain) + narrow, Double(chain) * 0x1p-126)
  }

  @Test(arguments: InstructionSet.supported, Precision.allCases)
  func layerMatchesOracle(_ instructionSet: InstructionSet, _ precision: Precision) throws {
    checkProperty(seeds: 0..<400) { layerCase in
      let problem = try layerCase.problem()
      let layer = try MoELayer(problem.configuration, weights: problem.weights, precision: precision)
      let (output, record) = try layer(
        problem.input, mask: problem.mask,
        execution: Execution(instructionSet: instructionSet, threadCount: 2))
      let expected = try expectation(problem, following: record, precision: precision)
      let (relative, absolute) = Self.bound(problem.configuration, precision)
      let exact = expected.output.flatMap { $0 }
      let error = norm(zip(output.tokens.elements, exact).map { Double($0) - $1 })
      let allowed = relative * norm(exact) + absolute * Double(exact.count).squareRoot()
      try ensure(
        error <= allowed, "error \(error) of \(norm(exact)), allowed \(allowed), on \(instructionSet)")
      // Where scores decide, `expectation` takes the kernel's slots; `PermuteTests` judge them.
      let priority = problem.configuration.routing.capacity?.priority
      if priority == .gate || priority == .batchPrioritized { return }
      try ensure(record.slots.map(Int.init) == expected.permutation.slots.flatMap { $0 }, "slots differ")
      try ensure(
        record.droppedCounts.map(Int.init) == expected.permutation.droppedCounts
          && record.counts.map(Int.init) == expected.permutation.counts
          && record.capacity == expected.capacity, "counts differ")
    }
  }
}

/// Returns √(Σ values²), even for values so small that their squares underflow; NaN stays NaN.
private func norm(_ values: [Double]) -> Double {
  let largest = values.reduce(0) { $1.isNaN ? $1 : max($0, abs($1)) }
  guard largest > 0 else { return largest }
  return largest * values.reduce(0) { $0 + ($1 / largest) * ($1 / largest) }.squareRoot()
}

/// Returns the oracle's output for the routes that a kernel chose.
///
/// A dropped choice has weight 0 in the record, so the oracle, which drops again, ranks it last.
func expectation(
  _ problem: LayerProblem, following record: RoutingRecord, precision: Precision = .float32
) throws -> Reference.LayerOutput {
  let logits = Reference.logits(problem.input.tokens, problem.weights.routerWeights)
  var policy = problem.configuration.routing
  // Tokens whose scores are equal but for rounding may claim rows in another order.
  if policy.capacity?.priority == .gate || policy.capacity?.priority == .batchPrioritized {
    let (routing, permutation) = Reference.decisions(
      of: record, logits: logits, policy: policy,
      selectionBias: problem.weights.routerWeights.selectionBias)
    return Reference.LayerOutput(
      output: try Reference.layer(
        problem.input, weights: problem.weights, configuration: problem.configuration, routing: routing,
        permutation: permutation, precision: precision == .bfloat16 ? .bfloat16 : .exact),
      routing: routing, permutation: permutation, capacity: record.capacity,
      appliedWeights: Reference.appliedWeights(routing.weights, slots: permutation.slots, policy: policy))
  }
  // The record's weights are normalised already.
  policy.normalizationTime = .beforeDropping
  let given = problem.configuration
  let configuration = try MoEConfiguration(
    hiddenSize: given.hiddenSize, feedForwardSize: given.feedForwardSize, expertCount: given.expertCount,
    expertsPerToken: given.expertsPerToken, activation: given.activation, routing: policy,
    denseBranch: given.denseBranch)
  var routing = try Reference.route(
    logits: logits,
    policy: configuration.routing, selectionBias: problem.weights.routerWeights.selectionBias,
    expertsPerToken: configuration.expertsPerToken, expertCount: configuration.expertCount,
    mask: problem.mask)
  for token in 0..<record.tokenCount {
    for choice in 0..<record.expertsPerToken {
      let index = token * record.expertsPerToken + choice
      routing.expertIDs[token][choice] = Int(record.expertIDs[index])
      routing.weights[token][choice] = Double(record.expertWeights[index])
    }
  }
  return try Reference.layer(
    problem.input, weights: problem.weights, configuration: configuration, routing: routing,
    precision: precision == .bfloat16 ? .bfloat16 : .exact)
}
