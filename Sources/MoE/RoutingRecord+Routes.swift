package import MoECore

extension RoutingRecord {
  /// Copies the values of a pass, into the arrays' own storage if that is large enough.
  ///
  /// - Parameters:
  ///   - choices: the rows that the permutation gave the choices of `routes`.
  ///   - mask: one value per token, false for padding.
  package mutating func update(
    from routes: Routes, _ choices: ChoiceRows, mask: [Bool]?, loadBalance: RoutingPolicy.LoadBalance
  ) {
    let made = routes.choices
    tokenCount = made.tokenCount
    expertCount = made.expertCount
    expertsPerToken = made.expertsPerToken
    // A limit that no batch reaches is none.
    capacity = choices.capacity.flatMap { $0 == CapacityRule.unlimitedRows ? nil : $0 }
    self.loadBalance = loadBalance
    var routed = tokenCount
    if let mask { for isRouted in mask where !isRouted { routed -= 1 } }
    routedTokenCount = routed
    made.expertIDs.copy(to: &expertIDs)
    made.weights.copy(to: &expertWeights)
    choices.slots.copy(to: &slots)
    choices.dropped.copy(to: &droppedCounts)
    routes.margins.copy(to: &margins)
    routes.logSumExp.copy(to: &logSumExp)
    routes.sums.copy(0..<expertCount, to: &counts)
    routes.sums.copy(expertCount..<2 * expertCount, to: &firstChoiceCounts)
    routes.sums.copy(2 * expertCount..<3 * expertCount, to: &probabilitySums)
  }
}
