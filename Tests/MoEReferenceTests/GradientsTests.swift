import MoECore
import MoEReference
import TestSupport
import Testing

/// Tests of the backward pass of a layer against differences of its forward pass.
@Suite struct GradientsTests {
  @Test func gradientsAreDerivativesOnRandomProblems() throws {
    var judge = DifferenceJudge()
    checkProperty(seeds: 0..<200) { example in
      try GradientProblem(example.small).compare(samples: 3, seed: example.seed, by: &judge)
    }
    try judge.ensureFewSkipped()
  }

  @Test(arguments: StagesTests.scorings, StagesTests.normalizations)
  func gradientsAreDerivativesForEveryPolicy(
    scoring: RoutingPolicy.Scoring, normalization: RoutingPolicy.Normalization
  ) throws {
    var judge = DifferenceJudge()
    for groups in StagesTests.groupLimits {
      for capacity in StagesTests.capacities {
        for placement in [RoutingPolicy.WeightPlacement.output, .input] {
          let policy = RoutingPolicy(
            scoring: scoring, normalization: normalization, scale: 2.5, groups: groups,
            weightPlacement: placement, capacity: capacity)
          if !policy.comparesBiasedScores && groups != nil { continue }
          var example = LayerCase(
            seed: 17, tokenCount: 5, expertCount: 12, expertsPerToken: 3, hiddenSize: 4, feedForwardSize: 3,
            policy: policy)
          example.batchSize = 2
          example.hasSelectionBias = policy.comparesBiasedScores
          example.hasBiases = true
          example.isMasked = true
          let seed = UInt64(judge.compared)
          try GradientProblem(example).compare(samples: 1, seed: seed, by: &judge)
        }
      }
    }
    try judge.ensureFewSkipped()
  }

  /// The second clamp is so narrow that most elements lie outside it, below or above.
  @Test(arguments: ActivationFunction.samples + [.clampedSwiGLU(alpha: 1.702, limit: 0.5)])
  func gradientsAreDerivativesForEveryDenseBranch(activation: ActivationFunction) throws {
    var judge = DifferenceJudge()
    let branches: [MoEConfiguration.DenseBranch?] = [
      nil, .shared(feedForwardSize: 4), .gatedShared(feedForwardSize: 4), .residual(feedForwardSize: 4),
    ]
    for branch in branches {
      for hasBiases in [false, true] {
        var example = LayerCase(
          seed: 18, tokenCount: 6, expertCount: 4, expertsPerToken: 2, hiddenSize: 5, feedForwardSize: 7,
          activation: activation)
        example.denseBranch = branch
        example.hasBiases = hasBiases
        example.isMasked = true
        try GradientProblem(example).compare(samples: 8, seed: 2, by: &judge)
      }
    }
    try judge.ensureFewSkipped()
  }

  @Test(
    arguments: [Temperament.uniform, .skewed, .allToOne, .emptyExpert, .ties], StagesTests.scorings)
  func gradientsAreDerivativesWhereverTokensGo(
    temperament: Temperament, scoring: RoutingPolicy.Scoring
  ) throws {
    var judge = DifferenceJudge()
    for k in 1...5 {
      for normalization in StagesTests.normalizations {
        var example = LayerCase(
          seed: 19, tokenCount: 6, expertCount: 5, expertsPerToken: k, hiddenSize: 3, feedForwardSize: 2,
          temperament: temperament, policy: RoutingPolicy(scoring: scoring, normalization: normalization))
        example.policy.capacity = k == 2 ? .init(rule: .fixed(2)) : nil
        try GradientProblem(example).compare(samples: 2, seed: UInt64(k), by: &judge)
      }
    }
    try judge.ensureFewSkipped()
  }

  /// Numbers too far from 1 for steps of 2⁻¹² cannot be compared with differences, but their gradients must be finite.
  @Test(arguments: Temperament.allCases)
  func gradientsAreFinite(temperament: Temperament) throws {
    for scoring in StagesTests.scorings {
      for normalization in StagesTests.normalizations {
        let example = LayerCase(
          seed: 20, tokenCount: 9, expertCount: 5, expertsPerToken: 2, hiddenSize: 4, feedForwardSize: 3,
          temperament: temperament,
          policy: RoutingPolicy(scoring: scoring, normalization: normalization))
        let problem = try example.problem()
        let forward = try Reference.layer(
          problem.input, weights: problem.weights, configuration: problem.configuration)
        let gradients = try Reference.gradients(
          problem.input, weights: problem.weights, configuration: problem.configuration,
          routing: forward.routing, permutation: forward.permutation, outputGradient: forward.output,
          loss: .ones(tokenCount: 9, expertCount: 5))
        let strange = gradients.values.filter { !$0.isFinite }
        #expect(strange.isEmpty, "\(scoring), \(normalization)")
      }
    }
  }

  @Test func anExpertWithoutRowsHasZeroGradients() throws {
    let problem = try GradientProblem(
      LayerCase(
        seed: 21, tokenCount: 7, expertCount: 4, expertsPerToken: 1, hiddenSize: 4, feedForwardSize: 3,
        temperament: .allToOne))
    let busy = problem.routing.expertIDs[0][0]
    let gradients = try problem.gradients()
    for expert in 0..<4 {
      let zeros = Reference.FeedForwardGradients(zerosFor: problem.weights.experts[expert])
      #expect((gradients.experts[expert] == zeros) == (expert != busy))
    }
  }

  /// With a capacity of 0, only the router's losses and the dense branch give gradients.
  @Test func whatIsDroppedHasNoGradient() throws {
    let policy = RoutingPolicy(
      scoring: .softmax, normalization: .sum(plus: 0), capacity: .init(rule: .fixed(0)))
    let problem = try GradientProblem(
      LayerCase(
        seed: 22, tokenCount: 5, expertCount: 4, expertsPerToken: 2, hiddenSize: 4, feedForwardSize: 3,
        policy: policy))
    let gradients = try Reference.gradients(
      problem.x, weights: problem.weights, configuration: problem.configuration, routing: problem.routing,
      permutation: problem.permutation, outputGradient: problem.outputGradient)
    #expect(Set(gradients.values) == [0])
  }

  /// With one expert per token, the softmax over the selected expert is 1 for any logits. So the router learns only
  /// from its losses.
  @Test func topOneOfSoftmaxOverSelectedTeachesTheRouterNothing() throws {
    let problem = try GradientProblem(
      LayerCase(
        seed: 23, tokenCount: 5, expertCount: 4, expertsPerToken: 1, hiddenSize: 4, feedForwardSize: 3))
    let gradients = try Reference.gradients(
      problem.x, weights: problem.weights, configuration: problem.configuration, routing: problem.routing,
      permutation: problem.permutation, outputGradient: problem.outputGradient)
    #expect(gradients.routerWeight == Array(repeating: Array(repeating: 0, count: 4), count: 4))
  }

  /// A masked token may hold any values, even NaN. Without a dense branch it has no effect.
  @Test func maskedTokensTouchNothing() throws {
    let example = LayerCase(
      seed: 24, tokenCount: 6, expertCount: 4, expertsPerToken: 2, hiddenSize: 3, feedForwardSize: 4)
    let problem = try GradientProblem(example)
    let padding = try Matrix(rows: 2, columns: 3, elements: Array(repeating: .nan, count: 6))
    let padded = try Activations(
      shape: [8, 3],
      tokens: Matrix(rows: 8, columns: 3, elements: problem.x.tokens.elements + padding.elements))
    let forward = try Reference.layer(
      padded, weights: problem.weights, configuration: problem.configuration,
      mask: Array(repeating: true, count: 6) + [false, false])
    let extra = Array(repeating: [1.0, 1, 1], count: 2)
    let gradients = try Reference.gradients(
      padded, weights: problem.weights, configuration: problem.configuration, routing: forward.routing,
      permutation: forward.permutation, outputGradient: problem.outputGradient + extra,
      loss: Reference.RouterLoss(
        value: 0,
        probabilityGradient: problem.loss.probabilityGradient + Array(repeating: [1, 1, 1, 1], count: 2),
        logSumExpGradient: problem.loss.logSumExpGradient + [1, 1]))
    var expected = try problem.gradients()
    expected.x += Array(repeating: [0, 0, 0], count: 2)
    #expect(gradients == expected)
  }
}

extension LayerCase {
  /// Returns the case made small enough for differences, with numbers near 1, for which steps of 2⁻¹² are small.
  fileprivate var small: LayerCase {
    var example = self
    example.sequenceLength = (sequenceLength - 1) % 6 + 1
    example.hiddenSize = (hiddenSize - 1) % 7 + 1
    example.feedForwardSize = (feedForwardSize - 1) % 7 + 1
    switch denseBranch {
    case .shared: example.denseBranch = .shared(feedForwardSize: 3)
    case .gatedShared: example.denseBranch = .gatedShared(feedForwardSize: 3)
    case .residual: example.denseBranch = .residual(feedForwardSize: 3)
    case nil: break
    }
    if [.tiny, .huge, .denormal].contains(temperament) { example.temperament = .uniform }
    return example
  }
}

extension Reference.RouterLoss {
  /// Returns a loss whose gradients are all 1.
  fileprivate static func ones(tokenCount: Int, expertCount: Int) -> Self {
    Self(
      value: 0,
      probabilityGradient: Array(repeating: Array(repeating: 1, count: expertCount), count: tokenCount),
      logSumExpGradient: Array(repeating: 1, count: tokenCount))
  }
}

extension Reference.LayerGradients {
  /// The elements of all gradients in one list.
  fileprivate var values: [Double] {
    func all(_ network: Reference.FeedForwardGradients) -> [Double] {
      ((network.gate ?? []) + network.up + network.down).flatMap { $0 } + (network.gateBias ?? [])
        + network.upBias + network.downBias
    }
    return (x + routerWeight + (denseGateWeight ?? [])).flatMap { $0 } + routerBias + (denseGateBias ?? [])
      + experts.flatMap(all) + (dense.map(all) ?? [])
  }
}
