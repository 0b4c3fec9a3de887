import MoECore
import MoEReference
import Testing

/// Tests of the router against values that were computed by hand or by the published systems.
@Suite struct RouterTests {
  private func route(
    _ logits: [Double], _ policy: RoutingPolicy, bias: [Float]? = nil, k: Int
  ) throws -> Reference.Routing {
    try Reference.route(logits: [logits], policy: policy, selectionBias: bias, expertsPerToken: k)
  }

  private func expectEqual(
    _ actual: [Double], _ expected: [Double], within bound: Double = 1e-12,
    sourceLocation: SourceLocation = #_sourceLocation
  ) {
    let agrees = actual.count == expected.count && zip(actual, expected).allSatisfy { abs($0 - $1) <= bound }
    #expect(agrees, "\(actual) is not \(expected)", sourceLocation: sourceLocation)
  }

  @Test func logitsAreProductPlusBias() throws {
    let x = try Matrix(rows: 2, columns: 2, elements: [1, 2, 3, 4])
    let weight = try Matrix(rows: 3, columns: 2, elements: [1, 0, 0, 1, 1, -1])
    let logits = Reference.logits(x, RouterWeights(weight: weight, bias: [0, 0.5, 0]))
    #expect(logits == [[1, 2.5, -1], [3, 4.5, -1]])
  }

  @Test func softmaxWeightsAreProbabilities() throws {
    // Odds of 4 : 2 : 1 : 1.
    let logits = [ln(4), ln(2), 0, 0]
    let routing = try route(logits, RoutingPolicy(scoring: .softmax), k: 2)
    #expect(routing.expertIDs == [[0, 1]])
    expectEqual(routing.weights[0], [0.5, 0.25])
    expectEqual(routing.scores[0], [0.5, 0.25, 0.125, 0.125])
    expectEqual(routing.margins, [0.125])
    expectEqual(routing.logSumExp, [ln(8)])
    #expect(routing.counts == [1, 1, 0, 0])
    #expect(routing.firstChoiceCounts == [1, 0, 0, 0])
  }

  @Test func normalizationDividesBySumBeforeScaling() throws {
    let logits = [ln(4), ln(2), 0, 0]
    func weights(_ normalization: RoutingPolicy.Normalization) throws -> [Double] {
      let policy = RoutingPolicy(scoring: .softmax, normalization: normalization, scale: 3)
      return try route(logits, policy, k: 2).weights[0]
    }
    try expectEqual(weights(.none), [1.5, 0.75])
    try expectEqual(weights(.sum(plus: 0)), [2, 1])
    try expectEqual(weights(.sum(plus: 0.25)), [1.5, 0.75])
    try expectEqual(weights(.sumAtLeast(0.5)), [2, 1])
    try expectEqual(weights(.sumAtLeast(1.5)), [1, 0.5])
  }

  @Test func softmaxOverSelectedSharesAmongSelected() throws {
    let routing = try route([ln(4), 0, ln(2), 0], .topKSoftmax, k: 2)
    #expect(routing.expertIDs == [[0, 2]])
    expectEqual(routing.weights[0], [2.0 / 3, 1.0 / 3])
    expectEqual(routing.margins, [ln(2)])
    expectEqual(routing.scores[0], [0.5, 0.125, 0.25, 0.125])
  }

  @Test func tiesGoToLowerIndex() throws {
    let routing = try route([1, 2, 2, 2, 1], RoutingPolicy(scoring: .softmax), k: 2)
    #expect(routing.expertIDs == [[1, 2]])
    #expect(routing.margins == [0])
  }

  @Test func selectionBiasSelectsAndDoesNotWeigh() throws {
    // The sigmoids are ¾, ½, ¼; the bias raises the last score above the others.
    let policy = RoutingPolicy(scoring: .sigmoid)
    let routing = try route([ln(3), 0, -ln(3)], policy, bias: [0, 0, 1], k: 2)
    #expect(routing.expertIDs == [[2, 0]])
    expectEqual(routing.weights[0], [0.25, 0.75])
    expectEqual(routing.selectionScores[0], [0.75, 0.5, 1.25])
    expectEqual(routing.scores[0], [0.5, 1.0 / 3, 1.0 / 6])
    expectEqual(routing.margins, [0.25])
  }

  /// With a bias of −½ every biased sigmoid of a negative logit is negative. Group 1 is the best, but a mask
  /// of zero lets the experts outside it win; a mask of −∞ does not.
  @Test func groupMaskOfZeroLosesToExpertsOutside() throws {
    let logits = [-3.0, -3, -3, -3, -1, -1.5, -2, -2]
    func experts(_ mask: RoutingPolicy.GroupLimit.Mask) throws -> [Int] {
      let groups = RoutingPolicy.GroupLimit(count: 2, selected: 1, score: .topTwoSum, mask: mask)
      let policy = RoutingPolicy(scoring: .sigmoid, groups: groups)
      return try route(logits, policy, bias: Array(repeating: -0.5, count: 8), k: 2).expertIDs[0]
    }
    #expect(try experts(.zero) == [0, 1])
    #expect(try experts(.negativeInfinity) == [4, 5])
  }

  @Test func groupsAreRankedByMaximumOrByTopTwo() throws {
    // Group 0 has the best single score, group 1 the largest sum of two scores.
    let logits = [5.0, 0, 4, 3]
    func experts(_ score: RoutingPolicy.GroupLimit.Score) throws -> [Int] {
      let groups = RoutingPolicy.GroupLimit(count: 2, selected: 1, score: score, mask: .negativeInfinity)
      let policy = RoutingPolicy(scoring: .softmaxOverSelected, groups: groups)
      return try route(logits, policy, k: 2).expertIDs[0]
    }
    #expect(try experts(.maximum) == [0, 1])
    #expect(try experts(.topTwoSum) == [2, 3])
  }

  /// The expected values are those that `sparsemixer` of Hugging Face transformers 5 returns in float64 for these
  /// logits. The threshold of the last row is 0/0, which excludes no expert.
  @Test(
    arguments: [
      ([3, 1, 0.9, 0.2], [0, 1], [1.0, 1.0]),
      ([2, 1.99, 0.5, -1], [0, 1], [0.5024999791668751, 1.0]),
      ([-1, -1.01, -1.015, -2], [0, 1], [0.3361161765913862, 0.5012499973958399]),
      ([0.5, 0.495, 0.493, 0.492], [0, 1], [0.2512519358240692, 0.3338890923763730]),
      ([0, -0.001, -3, 0], [0, 3], [0.5, 1.0]),
    ] as [([Double], [Int], [Double])])
  func sparseMixerIsThatOfTheHub(logits: [Double], experts: [Int], weights: [Double]) throws {
    let routing = try route(logits, RoutingPolicy(scoring: .sparseMixer(jitter: 0.01)), k: 2)
    #expect(routing.expertIDs == [experts])
    expectEqual(routing.weights[0], weights, within: 1e-14)
    let others = logits.indices.filter { !experts.contains($0) }.map { logits[$0] }
    #expect(routing.margins == [logits[experts[1]] - others.max()!])
  }

  @Test func sparseMixerHasNoSelectionBias() {
    #expect(throws: MoEError.self) {
      try route([1, 2], RoutingPolicy(scoring: .sparseMixer(jitter: 0.01)), bias: [0, 0], k: 1)
    }
  }

  @Test(arguments: [[0, Double.nan], [.infinity, 0], [-.infinity, -.infinity]])
  func logitsWithoutOrderAreErrors(logits: [Double]) {
    for scoring in [RoutingPolicy.Scoring.softmax, .sigmoid, .softmaxOverSelected] {
      #expect(throws: MoEError.notFinite(what: "the router logit", token: 1)) {
        try Reference.route(
          logits: [[0, 0], logits], policy: RoutingPolicy(scoring: scoring), expertsPerToken: 1)
      }
    }
  }

  @Test(arguments: StagesTests.scorings)
  func aLogitOfMinusInfinityHasProbabilityZero(scoring: RoutingPolicy.Scoring) throws {
    let routing = try route([-.infinity, 1, -.infinity], RoutingPolicy(scoring: scoring), k: 3)
    #expect(routing.expertIDs == [[1, 0, 2]])
    #expect(routing.weights[0].dropFirst() == [0, 0])
    #expect(routing.scores[0] == [0, 1, 0])
    #expect(routing.margins == [.infinity])
  }

  @Test func maskedTokensTakeNoPart() throws {
    let routing = try Reference.route(
      logits: [[.nan, .nan], [0, 0]], policy: RoutingPolicy(scoring: .softmax), expertsPerToken: 1,
      mask: [false, true])
    #expect(routing.expertIDs == [[-1], [0]])
    #expect(routing.weights == [[0], [0.5]])
    #expect(routing.scores == [[0, 0], [0.5, 0.5]])
    #expect(routing.margins == [.infinity, 0])
    #expect(routing.counts == [1, 0])
    #expect(routing.probabilitySums == [0.5, 0.5])
    #expect(routing.routedTokenCount == 1)
    expectEqual([routing.routerZLoss], [ln(2) * ln(2)])
  }
}
