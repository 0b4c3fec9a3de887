public import MoECore

extension RoutingRecord {
  /// The sums from which losses over the batch are made. ``MoELayer/statistics(of:by:workspace:execution:)`` returns
  /// the sums grouped by sequence or by position.
  public var statistics: RouterStatistics {
    var statistics = RouterStatistics(
      grouping: .batch, expertCount: expertCount, expertsPerToken: expertsPerToken)
    statistics.tokenCounts = [Int64(routedTokenCount)]
    statistics.counts = counts
    statistics.firstChoiceCounts = firstChoiceCounts
    statistics.probabilitySums = probabilitySums
    statistics.logSumExpSquares = logSumExp.reduce(0) { $0 + Double($1) * Double($1) }
    return statistics
  }

  /// Returns coefficient·E·Σ f·P, with f the share of assignments before dropping, a constant, and P the mean
  /// probability (Switch Transformer §2.2, eq. 4). If the policy says so, f counts all k choices, as in DeepSpeed and
  /// Megatron-Core.
  public func loadBalance(coefficient: Float) -> RouterLoss {
    let (statistics, coefficient) = (statistics, Double(coefficient))
    switch loadBalance.choices {
    case .none: return statistics.linear { _, _ in 0 }
    case .first: return statistics.switchTransformer(coefficient: coefficient)
    case .all, .best: return statistics.megatron(coefficient: coefficient)
    case .every, .everyBest: return statistics.megatron(coefficient: coefficient * Double(expertsPerToken))
    case .kept: return statistics.fastMoESwitch(kept: keptCounts, coefficient: coefficient)
    }
  }

  /// Returns coefficient·mean((ln Σ exp(logit))²) (ST-MoE §3.3, eq. 5).
  public func zLoss(coefficient: Float) -> RouterLoss { statistics.zLoss(coefficient: Double(coefficient)) }

  /// Returns a selection bias moved towards balance: b + rate·sign(mean count − count), once per batch (DeepSeek-V3
  /// §2.1.2, rate 0.001). The sign is computed in integers.
  ///
  /// - Precondition: there is one value per expert.
  public func updatedSelectionBias(_ bias: [Float], rate: Float) -> [Float] {
    statistics.updatedSelectionBias(bias, rate: rate)
  }
}
