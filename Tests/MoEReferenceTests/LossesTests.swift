import MoECore
import MoEReference
import Testing

/// Tests of the losses at balance and at collapse.
@Suite struct LossesTests {
  private let expertCount = 4

  /// For token t, the logit of expert `favourite(t)` is `lead`, and that of the next expert is half of it.
  private func routing(lead: Double, k: Int = 1, favourite: (Int) -> Int) throws -> Reference.Routing {
    let logits = (0..<8).map { token in
      (0..<expertCount).map { expert in
        let distance = (expert - favourite(token) + expertCount) % expertCount
        return distance == 0 ? lead : distance == 1 ? lead / 2 : 0
      }
    }
    return try Reference.route(logits: logits, policy: RoutingPolicy(scoring: .softmax), expertsPerToken: k)
  }

  @Test(arguments: [0.5, 3, 50])
  func loadBalanceLossIsOneWhenBalanced(lead: Double) throws {
    let balanced = try routing(lead: lead, k: 2) { $0 % 4 }
    #expect(abs(balanced.loadBalanceLoss(.firstChoice) - 1) < 1e-12)
    #expect(abs(balanced.loadBalanceLoss(.allChoices) - 1) < 1e-12)
  }

  @Test func loadBalanceLossIsExpertCountAtCollapse() throws {
    let collapsed = try routing(lead: 200) { _ in 2 }
    #expect(abs(collapsed.loadBalanceLoss(.firstChoice) - 4) < 1e-12)
    #expect(abs(collapsed.loadBalanceLoss(.allChoices) - 4) < 1e-12)
  }

  /// Every token chooses the same two experts: f is ½ for each of them, and P is nearly 1 for the first.
  @Test func allChoicesShareTheCountOfACollapse() throws {
    let collapsed = try routing(lead: 200, k: 2) { _ in 2 }
    #expect(abs(collapsed.loadBalanceLoss(.firstChoice) - 4) < 1e-12)
    #expect(abs(collapsed.loadBalanceLoss(.allChoices) - 2) < 1e-12)
  }

  /// With equal logits every first choice is expert 0, but P is equal for all experts. So the loss does not show it.
  @Test func loadBalanceLossIsOneWhereProbabilitiesAreEven() throws {
    let undecided = try routing(lead: 0) { _ in 0 }
    #expect(undecided.counts == [8, 0, 0, 0])
    #expect(abs(undecided.loadBalanceLoss(.firstChoice) - 1) < 1e-12)
  }

  @Test func zLossIsSquareOfLogSumExp() throws {
    let undecided = try routing(lead: 0) { _ in 0 }
    #expect(abs(undecided.routerZLoss - ln(4) * ln(4)) < 1e-12)
  }

  @Test func lossesOfNoTokensAreZero() throws {
    let empty = try Reference.route(
      logits: [], policy: .topKSoftmax, expertsPerToken: 1, expertCount: expertCount)
    #expect(empty.loadBalanceLoss(.allChoices) == 0)
    #expect(empty.routerZLoss == 0)
  }
}
