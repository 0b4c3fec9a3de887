import MoECore
import MoEReference
import TestSupport
import Testing

/// Tests of SparseMixer in training: the sampled experts, the factors of their weights, and the gradient estimator.
@Suite struct SparseMixerTests {
  private static let policy = RoutingPolicy(scoring: .sparseMixer(jitter: 0.2))
  private static let row = [1, 0.875, 0.75, -3]
  private static let tokenCount = 20_000

  private func route(_ count: Int, _ noise: RouterNoise?, k: Int = 2) throws -> Reference.Routing {
    try Reference.route(
      logits: Array(repeating: Self.row, count: count), policy: Self.policy, expertsPerToken: k, noise: noise)
  }

  /// Returns the weights of given choices without noise: the softmax shares among the experts within 2·jitter.
  private func shares(_ expertIDs: [[Int]]) -> [[Double]] {
    Reference.routing(
      choosing: expertIDs, logits: expertIDs.map { _ in Self.row }, policy: Self.policy
    ).weights
  }

  /// Returns whether the frequency is within five standard deviations, 5·√(p·(1 − p)/n), of the probability p.
  private func isFrequency(_ count: Int, of total: Int, _ probability: Double) -> Bool {
    let deviation = (probability * (1 - probability) / Double(total)).squareRoot()
    return abs(Double(count) / Double(total) - probability) <= 5 * deviation
  }

  @Test func expertsAreSampledByTheirShares() throws {
    let routing = try route(Self.tokenCount, RouterNoise(seed: 1))
    for expert in 0..<3 {
      let first = routing.expertIDs.filter { $0[0] == expert }
      #expect(isFrequency(first.count, of: Self.tokenCount, shares([[expert]])[0][0]), "\(first.count)")
      // The second choice is sampled among the two remaining experts.
      for other in 0..<3 where other != expert {
        let second = first.filter { $0[1] == other }
        #expect(isFrequency(second.count, of: first.count, shares([[expert, other]])[0][1]))
      }
    }
    #expect(routing.counts[3] == 0)
    #expect(routing.expertIDs.allSatisfy { $0[0] != $0[1] })
  }

  @Test func threeQuartersOfTheOthersAreMultipliedByAThird() throws {
    let routing = try route(Self.tokenCount, RouterNoise(seed: 2))
    let shares = shares(routing.expertIDs)
    var (others, thirds) = ([0, 0], [0, 0])
    for (token, chosen) in routing.expertIDs.enumerated() {
      for choice in 0..<2 {
        let factor = routing.weights[token][choice] / shares[token][choice]
        let isThird = abs(factor - 1.0 / 3) < 1e-12
        #expect(isThird || factor == 1)
        if chosen[choice] == (choice == 1 && chosen[0] == 0 ? 1 : 0) {
          #expect(!isThird, "the best expert is multiplied by nothing")
        } else {
          others[choice] += 1
          if isThird { thirds[choice] += 1 }
        }
      }
    }
    for choice in 0..<2 { #expect(isFrequency(thirds[choice], of: others[choice], 0.75), "\(thirds)") }
  }

  @Test func drawsBelongToSeedAndToken() throws {
    let whole = try route(50, RouterNoise(seed: 3, firstToken: 7))
    let part = try route(20, RouterNoise(seed: 3, firstToken: 37))
    #expect(Array(whole.expertIDs[30...]) == part.expertIDs && Array(whole.weights[30...]) == part.weights)
    let other = try route(50, RouterNoise(seed: 4, firstToken: 7))
    #expect(whole.expertIDs != other.expertIDs)
    #expect(Set(whole.expertIDs).count > 1)
  }

  @Test func withoutNoiseTheBestIsChosen() throws {
    #expect(try route(3, nil).expertIDs == [[0, 1], [0, 1], [0, 1]])
  }

  @Test func anExpertAloneIsChosen() throws {
    let routing = try Reference.route(
      logits: [[1, -.infinity, -.infinity]], policy: Self.policy, expertsPerToken: 2,
      noise: RouterNoise(seed: 5))
    #expect(routing.expertIDs == [[0, 1]])
    #expect(routing.weights == [[1, 0]])
  }

  /// The estimator is the derivative of the shares and does not depend on their factors.
  @Test func estimatorIsTheJacobianOfTheShares() throws {
    var generator = SeededGenerator(seed: 6)
    var judge = DifferenceJudge()
    for token in 0..<60 {
      let row = (0..<5).map { _ in 2 + Double(generator.normal()) * 0.5 }
      let noise = RouterNoise(seed: 7, firstToken: token)
      let chosen = try Reference.route(
        logits: [row], policy: Self.policy, expertsPerToken: 2, noise: noise
      ).expertIDs
      let gradient = [Double(generator.normal()), Double(generator.normal())]
      let found = Reference.routerBackward(
        logits: [row], expertIDs: chosen, policy: Self.policy, weightGradient: [gradient], noise: noise)[0]
      for expert in row.indices {
        try judge.compare(found[expert], magnitude: 4, "token \(token), logit \(expert)") { step in
          var moved = row
          moved[expert] += step
          let shares = Reference.routing(choosing: chosen, logits: [moved], policy: Self.policy).weights[0]
          return gradient[0] * shares[0] + gradient[1] * shares[1]
        }
      }
    }
    try judge.ensureFewSkipped()
  }
}
