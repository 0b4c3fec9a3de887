public import MoECore

#if canImport(Glibc)
  internal import Glibc
#elseif canImport(Darwin)
  internal import Darwin
#endif

/// The losses of a routing, without coefficients.
public struct RoutingLosses: Sendable, Equatable {
  /// The policy's load-balance loss.
  public var loadBalance: Double
  /// The mean of (ln Σ exp(logit))².
  public var routerZ: Double
}

extension RoutingPolicy {
  /// Computes the losses of logits `[T, E]` as the policy's system does: over its groups, with its treatment of padding.
  ///
  /// - Parameters:
  ///   - logits: `[T, E]`.
  ///   - record: the record of ``route(logits:expertsPerToken:selectionBias:givenExperts:mask:sequenceLength:noise:execution:)`` for
  ///     these logits.
  ///   - selectionBias: `[E]`, as the routing had it.
  ///   - mask: one value per token, false for padding.
  ///   - groupSize: the number of consecutive tokens over which the loss takes its means before it averages them; nil for
  ///     all tokens.
  ///   - noise: the random numbers of a training pass.
  ///   - execution: nil for ``Execution/automatic()``.
  public func losses(
    logits: Matrix, record: RoutingRecord, selectionBias: [Float]? = nil, mask: [Bool]? = nil,
    groupSize: Int? = nil, noise: RouterNoise? = nil, execution: Execution? = nil
  ) throws(MoEError) -> RoutingLosses {
    guard record.tokenCount > 0 else { return RoutingLosses(loadBalance: 0, routerZ: 0) }
    let size = min(max(groupSize ?? record.tokenCount, 1), record.tokenCount)
    let execution = if let execution { execution } else { try Execution.automatic() }
    let countsBest = [.best, .everyBest].contains(loadBalance.choices)
    let counted = countsBest ? best : self
    let bias =
      if let selectionBias, !countsBest {
        try Memory(selectionBias, paddedTo: record.expertCount)
      } else { nil as Memory? }
    func sums(_ policy: RoutingPolicy, mask: [Bool]?) throws(MoEError) -> RouterStatistics {
      try policy.statistics(
        RouterInput(
          logits: logits, expertsPerToken: record.expertsPerToken, policy: policy, selectionBias: bias,
          noise: noise), mask: mask, groupSize: size, execution: execution)
    }
    let real = try sums(counted, mask: mask)
    let all = mask == nil ? real : try sums(counted, mask: nil)
    let lengths = (0..<real.groupCount).map { min(size, record.tokenCount - $0 * size) }
    let means = lengths.indices.map { group in
      balance(group, real: real, all: all, length: lengths[group], kept: record.keptCounts)
    }
    return RoutingLosses(
      loadBalance: means.reduce(0, +) / Double(means.count), routerZ: routerZ(record, mask: mask))
  }

  /// The policy that takes the best scores, without groups, capacity and rules of the second choice.
  private var best: RoutingPolicy {
    var policy = self
    policy.groups = nil
    policy.capacity = nil
    policy.choice.second = .best
    return policy
  }

  /// Returns E·Σ f·P of one group.
  private func balance(
    _ group: Int, real: RouterStatistics, all: RouterStatistics, length: Int, kept: [Int64]
  ) -> Double {
    let (n, total) = (Double(real.tokenCounts[group]), Double(length))
    let isInMeans = loadBalance.padding == .inMeans
    let shares = isInMeans ? all : real
    let probabilities = isInMeans || loadBalance.padding == .inProbabilities ? all : real
    let divisor =
      switch loadBalance.padding {
      case .left: max(n, 1)
      case .inDivisor, .inProbabilities, .inMeans: total
      case .nearlyLeft: n + 1e-6 * total
      }
    let chosen = Double(real.expertsPerToken)
    let survivors = Double(max(kept.reduce(0, +), 1))
    var sum = 0.0
    for expert in 0..<real.expertCount {
      let index = group * real.expertCount + expert
      let mean = probabilities.probabilitySum(group, expert) / divisor
      let term: Double =
        switch loadBalance.choices {
        case .none: 0
        case .first: Double(shares.firstChoiceCounts[index]) / divisor * mean
        case .all, .best: Double(shares.counts[index]) / divisor / chosen * mean
        case .every, .everyBest: Double(shares.counts[index]) / divisor * mean
        case .kept: Double(kept[expert]) / survivors * mean * divisor / survivors
        }
      sum += term
    }
    return Double(real.expertCount) * sum * (isInMeans ? n / total : 1)
  }

  private func routerZ(_ record: RoutingRecord, mask: [Bool]?) -> Double {
    var (squares, tokens) = (0.0, 0)
    for (token, value) in record.logSumExp.enumerated() where mask?[token] ?? true {
      squares += Double(value) * Double(value)
      tokens += 1
    }
    if loadBalance.routerZ == .real { return squares / Double(max(tokens, 1)) }
    // A padding token has E logits of 0.
    let logarithm = log(Double(record.expertCount))
    let padding = Double(record.tokenCount - tokens)
    return (squares + padding * logarithm * logarithm) / Double(record.tokenCount)
  }
}
