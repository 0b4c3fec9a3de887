import MoECore
import MoEReference
import TestSupport
import Testing

/// Tests of the oracle's stages against the layer computed token by token from the definition.
@Suite struct StagesTests {
  @Test func stagesAgreeWithDefinitionOnRandomProblems() {
    checkProperty(seeds: 0..<600) { try compare($0, precision: .exact) }
  }

  @Test func stagesAgreeWithDefinitionInBFloat16() {
    checkProperty(seeds: 1000..<1200) { try compare($0, precision: .bfloat16) }
  }

  static let scorings: [RoutingPolicy.Scoring] = [
    .softmax, .sigmoid, .softmaxOverSelected, .sigmoidOfSelected, .sparseMixer(jitter: 0.01),
  ]
  static let normalizations: [RoutingPolicy.Normalization] = [
    .none, .sum(plus: 0), .sum(plus: 1e-9), .sumAtLeast(0.25),
  ]
  static let groupLimits: [RoutingPolicy.GroupLimit?] = [
    nil,
    .init(count: 4, selected: 2, score: .maximum, mask: .zero),
    .init(count: 2, selected: 1, score: .topTwoSum, mask: .negativeInfinity),
    .init(count: 3, selected: 2, score: .maximum, mask: .negativeInfinity),
  ]
  static let capacities: [RoutingPolicy.Capacity?] = [
    nil,
    .init(rule: .fixed(3), priority: .choiceThenToken, scope: .batch),
    .init(rule: .fixed(3), priority: .tokenThenChoice, scope: .sequence),
    .init(rule: .exact(numerator: 1, denominator: 2, minimum: 1), priority: .weight, scope: .sequence),
  ]

  @Test(arguments: scorings, normalizations)
  func stagesAgreeWithDefinitionForEveryPolicy(
    scoring: RoutingPolicy.Scoring, normalization: RoutingPolicy.Normalization
  ) throws {
    for groups in Self.groupLimits {
      for capacity in Self.capacities {
        for placement in [RoutingPolicy.WeightPlacement.output, .input] {
          let policy = RoutingPolicy(
            scoring: scoring, normalization: normalization, scale: 2.5, groups: groups,
            weightPlacement: placement, capacity: capacity)
          if !policy.comparesBiasedScores && groups != nil { continue }
          var example = LayerCase(
            seed: 7, tokenCount: 7, expertCount: 12, expertsPerToken: 3, hiddenSize: 5, feedForwardSize: 6,
            policy: policy)
          example.batchSize = 2
          example.hasSelectionBias = policy.comparesBiasedScores
          example.hasBiases = true
          try compare(example, precision: .exact)
        }
      }
    }
  }

  @Test(arguments: ActivationFunction.samples)
  func stagesAgreeWithDefinitionForEveryDenseBranch(activation: ActivationFunction) throws {
    let branches: [MoEConfiguration.DenseBranch?] = [
      nil, .shared(feedForwardSize: 4), .gatedShared(feedForwardSize: 4), .residual(feedForwardSize: 4),
    ]
    for branch in branches {
      var example = LayerCase(
        seed: 8, tokenCount: 6, expertCount: 4, expertsPerToken: 2, hiddenSize: 5, feedForwardSize: 7,
        activation: activation)
      example.denseBranch = branch
      example.hasBiases = true
      example.isMasked = true
      try compare(example, precision: .exact)
      try compare(example, precision: .bfloat16)
    }
  }

  @Test func layerOfNoTokensHasCounts() throws {
    let example = LayerCase(
      seed: 9, tokenCount: 0, expertCount: 3, expertsPerToken: 2, hiddenSize: 4, feedForwardSize: 4)
    let problem = try example.problem()
    let result = try Reference.layer(
      problem.input, weights: problem.weights, configuration: problem.configuration)
    #expect(result.output.isEmpty)
    #expect(result.routing.counts == [0, 0, 0])
    #expect(result.permutation.offsets == [0, 0, 0, 0])
  }

  /// The two computations add in the same order but group some products differently. So they differ by a few roundings
  /// of Double for each of the D + F + K terms of an element. The bound for exact operands, 2⁻⁴⁰ of the output, is
  /// larger than that and far below any wrong term.
  private func compare(_ example: LayerCase, precision: Reference.Precision) throws {
    let problem = try example.problem()
    let stages = try Reference.layer(
      problem.input, weights: problem.weights, configuration: problem.configuration, mask: problem.mask,
      precision: precision)
    let definition = try Reference.tokenByToken(
      problem.input, weights: problem.weights, configuration: problem.configuration, mask: problem.mask,
      precision: precision)
    try ensure(stages.routing.expertIDs == definition.expertIDs, "experts differ")
    let kept = stages.permutation.slots.map { $0.map { $0 >= 0 } }
    try ensure(kept == definition.kept, "kept choices differ: \(kept) and \(definition.kept)")
    let weightError = Tolerance.relativeRMS(
      stages.appliedWeights.flatMap { $0 }, definition.appliedWeights.flatMap { $0 })
    try ensure(weightError < 0x1p-40, "weights differ by \(weightError)")
    let outputError = Tolerance.relativeRMS(
      stages.output.flatMap { $0 }, definition.output.flatMap { $0 })
    // The two hidden values differ by a few ulp of Double. If a value is half-way between two bfloat16 numbers, as is
    // common for a nearly linear activation, those few ulp decide to which it is rounded, and the two differ by 2⁻⁸.
    let bound = precision == .exact ? 0x1p-40 : Tolerance.bfloat16Roundoff
    try ensure(outputError < bound, "outputs differ by \(outputError)")
    try checkInvariants(stages, problem.configuration)
  }

  /// Checks the invariants of every permutation: rows and choices refer to each other, and the counts add up.
  private func checkInvariants(
    _ layer: Reference.LayerOutput, _ configuration: MoEConfiguration
  ) throws {
    let permutation = layer.permutation
    try ensure(permutation.counts == layer.routing.counts, "counts differ")
    let rowsOfChoices = permutation.slotRow.flatMap { $0 }.filter { $0 >= 0 }
    try ensure(rowsOfChoices.sorted() == Array(permutation.rowToken.indices), "rows are not each used once")
    for (token, rows) in permutation.slotRow.enumerated() {
      for (choice, row) in rows.enumerated() where row >= 0 {
        let expert = layer.routing.expertIDs[token][choice]
        let range = permutation.offsets[expert]..<permutation.offsets[expert + 1]
        try ensure(range.contains(row), "row \(row) is not one of expert \(expert)")
        try ensure(permutation.rowToken[row] == token, "row \(row) is not of token \(token)")
      }
    }
    for expert in permutation.counts.indices {
      let kept = permutation.offsets[expert + 1] - permutation.offsets[expert]
      let accounted = kept + permutation.droppedCounts[expert]
      // A token that has its expert does not try its next choices.
      let triesAll = configuration.routing.capacity?.priority != .nextChoice
      try ensure(
        triesAll ? accounted == permutation.counts[expert] : accounted <= permutation.counts[expert],
        "expert \(expert) keeps \(kept) and drops \(permutation.droppedCounts[expert])")
    }
  }
}
