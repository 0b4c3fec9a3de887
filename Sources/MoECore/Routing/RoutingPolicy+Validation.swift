extension RoutingPolicy {
  /// Checks the policy for `expertCount` experts, of which each token chooses `expertsPerToken`.
  ///
  /// - Throws: ``MoEError/invalidConfiguration(_:)`` naming the value that cannot be honoured, or the two rules that
  ///   have no meaning together.
  public func validate(expertCount: Int, expertsPerToken: Int) throws(MoEError) {
    try require(
      (1...1 << 24).contains(expertCount), "the number of experts is \(expertCount), expected 1 to \(1 << 24)"
    )
    try require(
      expertsPerToken > 0 && expertsPerToken <= expertCount,
      "top-k is \(expertsPerToken), expected 1 to the number of experts, \(expertCount)")
    try validateScores()
    try groups?.validate(expertCount: expertCount, expertsPerToken: expertsPerToken)
    if let complaint = capacity?.rule.complaint { throw .invalidConfiguration(complaint) }
    if case .group(let size) = capacity?.scope {
      try require(size > 0, "a group has \(size) tokens, expected at least 1")
    }
    try validateNoise()
    for rule in contradictions(expertsPerToken: expertsPerToken) where rule.isGiven {
      throw .invalidConfiguration(rule.reason)
    }
  }

  private func validateScores() throws(MoEError) {
    try require(scale.isFinite, "the routed scaling factor is \(scale), expected a finite number")
    try require(
      logitScale.isFinite && logitScale > 0, "the factor of the logits is \(logitScale), expected above 0")
    switch normalization {
    case .none: break
    case .sum(plus: let plus):
      try require(plus >= 0, "the term added to the sum of weights is \(plus), expected at least 0")
    case .sumAtLeast(let floor):
      try require(floor >= 0, "the least sum of weights is \(floor), expected at least 0")
    case .norm(let power):
      try require(
        power >= 1 && power.isFinite, "the power of the weights' norm is \(power), expected at least 1")
    }
    if case .sparseMixer(let jitter) = scoring {
      try require(jitter >= 0 && jitter.isFinite, "the router jitter is \(jitter), expected at least 0")
    }
  }

  private func validateNoise() throws(MoEError) {
    try require(
      noise.inputJitter >= 0 && noise.inputJitter <= 1,
      "the jitter of the router's input is \(noise.inputJitter), expected 0 to 1")
    try require(
      noise.inputDropout >= 0 && noise.inputDropout < 1,
      "the dropout of the router's input is \(noise.inputDropout), expected 0 or more and below 1")
    switch noise.logits {
    case .none, .learned: break
    case .normal(let deviation):
      try require(
        deviation >= 0 && deviation.isFinite, "the noise of the logits is \(deviation), expected at least 0")
    case .uniform(let spread):
      try require(spread >= 0 && spread <= 1, "the noise of the logits is \(spread), expected 0 to 1")
    }
    if case .sampledWithTemperature(let temperature) = choice.first {
      try require(
        temperature > 0 && temperature.isFinite,
        "the temperature of the first choice is \(temperature), expected above 0")
    }
    switch choice.second {
    case .best, .sampled: break
    case .random(let threshold), .randomAfterDropping(let threshold), .above(let threshold):
      try require(
        threshold >= 0 && threshold.isFinite,
        "the threshold of the second choice is \(threshold), expected at least 0")
    }
  }

  /// A pair of rules that have no meaning together.
  private struct Contradiction {
    let isGiven: Bool
    let reason: String
  }

  /// The pairs of rules that have no meaning together, with the reasons.
  private func contradictions(expertsPerToken: Int) -> [Contradiction] {
    let isSparseMixer = if case .sparseMixer = scoring { true } else { false }
    let samplesFirst = choice.first != .best
    let drawsChoice = samplesFirst || choice.second == .sampled || capacity?.priority == .random
    return [
      Contradiction(
        isGiven: isSparseMixer && groups != nil,
        reason: "SparseMixer chooses one expert after another and has no groups"),
      Contradiction(
        isGiven: isSparseMixer && choice != .best,
        reason:
          "SparseMixer samples its choices itself, so no other rule can sample the first or second choice"),
      Contradiction(
        isGiven: choice.second != .best && expertsPerToken < 2,
        reason: "a rule for the second choice needs a top-k of 2 or more, but top-k is \(expertsPerToken)"),
      Contradiction(
        isGiven: samplesFirst && groups != nil,
        reason: "a sampled first choice looks at all experts, so it cannot be limited to groups"),
      Contradiction(
        isGiven: noise.logits != .none && drawsChoice,
        reason: "noise on the logits and a drawn choice would use the same random numbers"),
      Contradiction(
        isGiven: choice.second.isDecidedLater && capacity != nil && capacity?.priority != .tokenThenChoice,
        reason: "a second choice that is left out after dropping claims its row in the order of tokens"),
      Contradiction(
        isGiven: normalizationTime == .afterDropping && scoring == .softmaxOverSelected,
        reason: "the softmax over the selected experts is normalised before dropping"),
      Contradiction(
        isGiven: capacity?.priority == .nextChoice && normalization != .none,
        reason: "a token that tries its next choice has one expert, whose weight is not normalised"),
    ]
  }
}

extension RoutingPolicy.GroupLimit {
  fileprivate func validate(expertCount: Int, expertsPerToken: Int) throws(MoEError) {
    try require(
      count > 0 && expertCount % count == 0,
      "\(expertCount) experts cannot be divided into \(count) equal groups")
    try require(
      selected > 0 && selected <= count, "a token may use \(selected) groups, expected 1 to \(count)")
    let size = expertCount / count
    if score == .topTwoSum {
      try require(size >= 2, "groups of one expert have no two best scores to add")
    } else {
      try require(
        (0...size).contains(score.addends),
        "groups of \(size) experts have no \(score.addends) best scores to add")
    }
    try require(
      selected * size >= expertsPerToken,
      "the groups a token may use hold \(selected * size) experts, fewer than top-k \(expertsPerToken)")
  }
}

/// Throws the message unless the condition holds.
private func require(_ condition: Bool, _ message: @autoclosure () -> String) throws(MoEError) {
  if !condition { throw .invalidConfiguration(message()) }
}
