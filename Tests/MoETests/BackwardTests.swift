import MoE
import MoECore
import MoEReference
import TestSupport
import Testing

/// The backward pass of the layer against the oracle's, which follows the kernel's own routes and drops.
@Suite struct BackwardTests {
  /// Returns γ of the longest chain, forward and backward through the layer: D and F forward, D, 2·F and D back, the T
  /// rows of a weight's sum, and 64 for activation, router and weights.
  ///
  /// A gradient is compared with the size of all gradients of its kind, because a single one may be a difference of
  /// large terms. The factor 8 is for the cases with only one gradient: near a zero of an activation's slope, as
  /// SwiGLU's at −1.28, the slope is several times smaller than the terms of its sum.
  ///
  /// In bfloat16 the weights are exact here, and four operands are rounded by at most 2⁻⁸ of themselves: the row, the
  /// hidden row, the output's gradient and that of gate and up. The factor also allows for a preactivation that they
  /// move across the kink of ReLU or of a clamp. ``bfloat16GradientsOfManyRows()`` uses the sum of the four alone.
  static func bound(_ configuration: MoEConfiguration, _ precision: Precision, tokenCount: Int) -> Double {
    let inner = configuration.feedForwardSize + (configuration.denseBranch?.feedForwardSize ?? 0)
    let chain = Tolerance.gamma(
      4 * configuration.hiddenSize + 3 * inner + tokenCount + configuration.expertCount + 64)
    let narrow = precision == .bfloat16 ? 4 * Tolerance.bfloat16Roundoff : 0
    return 8 * (chain + narrow)
  }

  /// Characters in which fp32 gradients are meaningful: products of denormals underflow, and huge activations put
  /// every probability at 0 or 1, where its gradient is rounding.
  static let temperaments: Set<Temperament> = [.uniform, .skewed, .allToOne, .emptyExpert, .ties]

  @Test(arguments: InstructionSet.supported, Precision.allCases)
  func gradientsMatchOracle(_ instructionSet: InstructionSet, _ precision: Precision) {
    checkProperty(seeds: 0..<250) { layerCase in
      guard Self.temperaments.contains(layerCase.temperament) else { return }
      try compare(layerCase, precision, Execution(instructionSet: instructionSet, threadCount: 2))
    }
  }

  /// Over many elements, the error is that of four roundings and no more.
  @Test(arguments: InstructionSet.supported)
  func bfloat16GradientsOfManyRows(_ instructionSet: InstructionSet) throws {
    let configuration = try MoEConfiguration(
      hiddenSize: 70, feedForwardSize: 90, expertCount: 5, expertsPerToken: 2,
      denseBranch: .gatedShared(feedForwardSize: 50))
    let problem = LayerProblem(
      configuration: configuration, weights: MoEWeights.random(for: configuration, seed: 8),
      input: .random([3, 50, 70], seed: 9))
    try compare(
      problem.withRoundedNetworks, seed: 10, .bfloat16,
      Execution(instructionSet: instructionSet, threadCount: 2), bound: 4 * Tolerance.bfloat16Roundoff)
  }

  @Test func lossesMatchOracle() {
    checkProperty(seeds: 500..<650) { layerCase in
      guard Self.temperaments.contains(layerCase.temperament) else { return }
      try compare(layerCase, .float32, Execution(), withLosses: true)
    }
  }

  /// Checks SparseMixer's estimator for sampled experts, and the jitter of every router's input.
  @Test(arguments: InstructionSet.supported)
  func noiseMatchesOracle(_ instructionSet: InstructionSet) {
    checkProperty(seeds: 1000..<1120) { layerCase in
      guard Self.temperaments.contains(layerCase.temperament) else { return }
      var layerCase = layerCase
      if layerCase.seed % 2 == 0 {
        layerCase.policy = RoutingPolicy(
          scoring: .sparseMixer(jitter: 0.25), normalization: layerCase.policy.normalization,
          capacity: layerCase.policy.capacity)
        if layerCase.policy.capacity?.priority == .nextChoice { layerCase.policy.capacity = nil }
        layerCase.policy.noise.inputJitter = layerCase.seed % 4 < 2 ? 0.125 : 0
        layerCase.hasSelectionBias = false
      }
      let noise = RouterNoise(seed: layerCase.seed, firstToken: 5)
      try compare(
        layerCase, .float32, Execution(instructionSet: instructionSet, threadCount: 2), withLosses: true,
        noise: noise)
    }
  }

  @Test(arguments: InstructionSet.supported, Precision.allCases)
  func bitsDoNotDependOnThreadsOrParts(_ instructionSet: InstructionSet, _ precision: Precision) throws {
    var generator = SeededGenerator(seed: 3)
    let configuration = try MoEConfiguration(
      hiddenSize: 70, feedForwardSize: 50, expertCount: 5, expertsPerToken: 2,
      denseBranch: .residual(feedForwardSize: 30))
    let layer = try MoELayer(
      configuration, weights: MoEWeights.random(for: configuration, seed: 4), precision: precision)
    let input = Activations.random([61, 70], seed: 5)
    let outputGradient = Activations.random([61, 70], seed: 6)
    var expected: (input: [Float], weights: MoEWeights)?
    for threads in [1, 2, 3, 7] {
      for split in [61, Int.random(in: 1..<61, using: &generator)] {
        let gradients = try MoEGradients(for: layer)
        var ofInput: [Float] = []
        for range in [0..<split, split..<61] where !range.isEmpty {
          ofInput += try backward(
            layer, rows(input, range), rows(outputGradient, range), gradients,
            Execution(instructionSet: instructionSet, threadCount: threads)
          ).elements
        }
        let result = (ofInput, gradients.weights(of: layer))
        if let expected {
          #expect(result.0 == expected.input && result.1 == expected.weights, "\(threads) threads, \(split)")
        } else {
          expected = result
        }
      }
    }
  }

  @Test func recordingIsUsedOnce() throws {
    let configuration = try MoEConfiguration(
      hiddenSize: 8, feedForwardSize: 8, expertCount: 2, expertsPerToken: 1)
    let layer = try MoELayer(configuration, weights: MoEWeights.random(for: configuration, seed: 1))
    let input = Activations.random([3, 8], seed: 1)
    let gradients = try MoEGradients(for: layer)
    var recording = Recording()
    var workspace = Workspace()
    var result = input
    func backward() throws {
      try layer.backward(
        input, input: input, recording: &recording, into: &result, gradients: gradients, workspace: &workspace
      )
    }
    let refusal = MoEError.invalidConfiguration("the recording holds no pass over 3 tokens")
    #expect(throws: refusal) { try backward() }
    try layer.forward(input, recording: &recording, into: &result, workspace: &workspace)
    try backward()
    #expect(throws: refusal) { try backward() }
  }
}

/// Computes one forward pass and its backward pass, and returns dL/dinput.
private func backward(
  _ layer: MoELayer, _ input: Activations, _ outputGradient: Activations, _ gradients: MoEGradients,
  _ execution: Execution
) throws -> Matrix {
  var recording = Recording()
  var workspace = Workspace()
  var output = input
  try layer.forward(
    input, recording: &recording, into: &output, workspace: &workspace, execution: execution)
  try layer.backward(
    outputGradient, input: input, recording: &recording, into: &output, gradients: gradients,
    workspace: &workspace, execution: execution)
  return output.tokens
}

private func rows(_ activations: Activations, _ range: Range<Int>) throws -> Activations {
  let width = activations.tokens.columns
  let elements = activations.tokens.elements[range.lowerBound * width..<range.upperBound * width]
  return try Activations(
    shape: [range.count, width], tokens: Matrix(rows: range.count, columns: width, elements: elements))
}

/// Compares every gradient of a case with the oracle's.
private func compare(
  _ layerCase: LayerCase, _ precision: Precision, _ execution: Execution, withLosses: Bool = false,
  noise: RouterNoise? = nil
) throws {
  let problem = try precision == .float32 ? layerCase.problem() : layerCase.problem().withRoundedNetworks
  try compare(
    problem, seed: layerCase.seed &+ 1, precision, execution,
    bound: BackwardTests.bound(problem.configuration, precision, tokenCount: layerCase.tokenCount),
    withLosses: withLosses, noise: noise, allToOne: layerCase.temperament == .allToOne)
}

private func compare(
  _ problem: LayerProblem, seed: UInt64, _ precision: Precision, _ execution: Execution, bound: Double,
  withLosses: Bool = false, noise: RouterNoise? = nil, allToOne: Bool = false
) throws {
  let (configuration, input) = (problem.configuration, problem.input)
  let layer = try MoELayer(configuration, weights: problem.weights, precision: precision)
  var generator = SeededGenerator(seed: seed)
  let outputGradient = try Activations(
    shape: input.shape,
    tokens: .normal(
      rows: input.tokenCount, columns: configuration.hiddenSize, deviation: 1, using: &generator))
  var losses = RouterLossGradients()
  if withLosses {
    let length = max(input.sequenceLength, 1)
    for grouping in [TokenGrouping.batch, .sequence(length: length), .position(length: length)] {
      losses.probability.append(
        ProbabilityGradient(
          .normal(
            rows: grouping.groupCount(tokenCount: input.tokenCount), columns: configuration.expertCount,
            deviation: 0.5, using: &generator), grouping: grouping))
    }
    losses.logSumExpFactor = 0.125
  }
  var recording = Recording()
  var workspace = Workspace()
  var result = input
  try layer.forward(
    input, mask: problem.mask, noise: noise, recording: &recording, into: &result, workspace: &workspace,
    execution: execution)
  let gradients = try MoEGradients(for: layer)
  try layer.backward(
    outputGradient, input: input, recording: &recording, losses: losses, into: &result, gradients: gradients,
    workspace: &workspace, execution: execution)

  let expected = try oracleGradients(problem, outputGradient, following: recording.record, losses, noise)
  func judge(_ name: String, _ actual: [Float]?, _ exact: [Double]?) throws {
    guard let actual, let exact else { return }
    let error = Tolerance.relativeRMS(actual.map(Double.init), exact)
    let size = exact.reduce(0) { max($0, abs($1)) }
    try ensure(
      error <= bound || size < 1e-12 && actual.allSatisfy { abs($0) < 1e-10 },
      "\(name): relative RMS error \(error), allowed \(bound), on \(execution.instructionSet)")
  }
  let found = gradients.weights(of: layer)
  try judge("input", result.tokens.elements, expected.x.flatMap { $0 })
  try judgeNetworks("experts", found.experts, expected.experts, judge)
  if let dense = found.dense { try judgeNetworks("dense branch", [dense], [expected.dense!], judge) }
  // If all tokens go to one expert, its probability is 1 to the last bit, and its gradient is only rounding.
  if allToOne { return }
  try judge("router", found.routerWeights.weight.elements, expected.routerWeight.flatMap { $0 })
  try judge("router bias", found.routerWeights.bias, expected.routerBias)
  let (gate, exactGate) = (found.denseGate, expected.denseGateWeight?.flatMap { $0 })
  if precision == .bfloat16 {
    // A gate's bias is one number or two. Their sums over tokens may nearly cancel, and then have no digits left.
    try judge(
      "gate", gate.map { $0.weight.elements + ($0.bias ?? []) },
      exactGate.map { $0 + (gate?.bias == nil ? [] : expected.denseGateBias ?? []) })
  } else {
    try judge("gate", gate?.weight.elements, exactGate)
    try judge("gate bias", gate?.bias, expected.denseGateBias)
  }
}

/// Judges each kind of parameter over all networks at once.
private func judgeNetworks(
  _ owner: String, _ found: [FeedForwardWeights], _ exact: [Reference.FeedForwardGradients],
  _ judge: (String, [Float]?, [Double]?) throws -> Void
) throws {
  func all<Element>(_ parts: [[Element]?]) -> [Element]? {
    parts.contains { $0 == nil } ? nil : parts.flatMap { $0! }
  }
  try judge(
    "\(owner): gate", all(found.map { $0.gate?.elements }), all(exact.map { $0.gate?.flatMap { $0 } }))
  try judge("\(owner): up", all(found.map { $0.up.elements }), all(exact.map { $0.up.flatMap { $0 } }))
  try judge("\(owner): down", all(found.map { $0.down.elements }), all(exact.map { $0.down.flatMap { $0 } }))
  try judge("\(owner): gate bias", all(found.map(\.gateBias)), all(exact.map(\.gateBias)))
  try judge("\(owner): up bias", all(found.map(\.upBias)), all(exact.map(\.upBias)))
  try judge("\(owner): down bias", all(found.map(\.downBias)), all(exact.map(\.downBias)))
}

extension LayerProblem {
  /// The problem with rounded networks' weights, so that packing them in bfloat16 changes nothing.
  fileprivate var withRoundedNetworks: LayerProblem {
    func rounded(_ matrix: Matrix) -> Matrix {
      var result = matrix
      for row in 0..<matrix.rows {
        for column in 0..<matrix.columns { result[row, column] = matrix[row, column].nearestBFloat16 }
      }
      return result
    }
    func rounded(_ network: FeedForwardWeights) -> FeedForwardWeights {
      var result = network
      result.gate = network.gate.map(rounded)
      result.up = rounded(network.up)
      result.down = rounded(network.down)
      return result
    }
    var weights = weights
    weights.experts = weights.experts.map(rounded)
    weights.dense = weights.dense.map(rounded)
    return LayerProblem(configuration: configuration, weights: weights, input: input, mask: mask)
  }
}

/// Returns the oracle's gradients for the choices and drops of a recorded pass.
private func oracleGradients(
  _ problem: LayerProblem, _ outputGradient: Activations, following record: RoutingRecord,
  _ losses: RouterLossGradients, _ noise: RouterNoise?
) throws -> Reference.LayerGradients {
  let (routing, permutation) = Reference.decisions(
    of: record,
    logits: Reference.logits(
      problem.input.tokens, problem.weights.routerWeights, problem.configuration.routing.noise, noise: noise),
    policy: problem.configuration.routing, selectionBias: problem.weights.routerWeights.selectionBias,
    noise: noise)
  let length = max(problem.input.sequenceLength, 1)
  var loss = Reference.RouterLoss(
    value: 0, probabilityGradient: routing.scores.map { $0.map { _ in 0 } },
    logSumExpGradient: routing.logSumExp.map { Double(losses.logSumExpFactor) * $0 })
  for (token, chosen) in routing.expertIDs.enumerated() where !chosen.contains(-1) {
    for term in losses.probability {
      let group =
        switch term.grouping {
        case .batch: 0
        case .sequence: token / length
        case .position: token % length
        }
      for expert in 0..<record.expertCount {
        loss.probabilityGradient[token][expert] += Double(term.values[group, expert])
      }
    }
  }
  return try Reference.gradients(
    problem.input, weights: problem.weights, configuration: problem.configuration, routing: routing,
    permutation: permutation,
    outputGradient: Reference.rows(outputGradient.tokens), loss: loss, noise: noise)
}
