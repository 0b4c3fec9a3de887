public import MoECore

extension Reference.Routing {
  /// Returns E·Σₑ fₑ·Pₑ, with fₑ the share of choices that expert e gets before dropping and Pₑ its mean probability
  /// (Switch Transformer §2.2, eq. 4). It is 1 if the load is balanced, and E if one expert gets all choices with
  /// probability 1.
  /// The loss of kept choices depends on the permutation and is not computed here.
  public func loadBalanceLoss(_ assignments: RoutingPolicy.LoadBalance) -> Double {
    guard routedTokenCount > 0, assignments.choices != .none else { return 0 }
    let assigned = assignments.choices == .first ? firstChoiceCounts : counts
    let total = Double(
      [.every, .everyBest].contains(assignments.choices) ? routedTokenCount : assigned.reduce(0, +))
    let products = (0..<expertCount).map { expert in
      Double(assigned[expert]) / total * probabilitySums[expert] / Double(routedTokenCount)
    }
    return Double(expertCount) * products.reduce(0, +)
  }

  /// The mean of (ln Σ exp(logit))² over the routed tokens (ST-MoE §3.3, eq. 5).
  public var routerZLoss: Double {
    guard routedTokenCount > 0 else { return 0 }
    return logSumExp.reduce(0) { $0 + $1 * $1 } / Double(routedTokenCount)
  }
}
