import MoECore
import MoEReference
import Testing

/// The losses at the ends of their range.
@Suite struct LossesTests {
  private let expertCount = 4

  /// Token t prefers expert `favourite(t)` by `lead`, the next by half of it.
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

  /// Two choices for every token, all the same pair: f is ½ for each and P nearly 1 for the first.
  @Test func allChoicesShareTheCountOfACollapse() throws {
    let collapsed = try routing(lead: 200, k: 2) { _ in 2 }
    #expect(abs(collapsed.loadBalanceLoss(.firstChoice) - 4) < 1e-12)
    #expect(abs(collapsed.loadBalanceLoss(.allChoices) - 2) < 1e-12)
  }

  /// Undecided logits send every first choice to expert 0, yet P is even: the loss does not see it.
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
