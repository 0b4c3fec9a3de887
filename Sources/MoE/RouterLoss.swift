public import MoECore

/// A loss of a batch's routing: its value, to add to the training loss, and its gradients, to pass to
/// ``MoELayer/backward(_:input:recording:losses:into:gradients:workspace:execution:)``.
public struct RouterLoss: Sendable {
  /// The loss, its coefficient included.
  public var value: Double
  /// What it contributes to the gradient of the logits.
  public var gradients: RouterLossGradients

  /// Both losses at once; both are over the same batch.
  public static func + (left: RouterLoss, right: RouterLoss) -> RouterLoss {
    RouterLoss(value: left.value + right.value, gradients: left.gradients + right.gradients)
  }
}

extension RouterLossGradients {
  /// Both contributions at once.
  ///
  /// - Precondition: those with probabilities have the same groups of tokens.
  public static func + (left: RouterLossGradients, right: RouterLossGradients) -> RouterLossGradients {
    var sum = left.probability == nil ? right : left
    sum.logSumExpFactor = left.logSumExpFactor + right.logSumExpFactor
    guard let first = left.probability, let second = right.probability else { return sum }
    precondition(
      first.shape == second.shape && left.groupTokenCount == right.groupTokenCount,
      "losses over groups of \(left.groupTokenCount) and \(right.groupTokenCount) tokens cannot be added")
    for row in 0..<first.rows {
      for column in 0..<first.columns {
        sum.probability![row, column] = first[row, column] + second[row, column]
      }
    }
    return sum
  }
}

extension RoutingRecord {
  /// coefficient·E·Σ f·P with f the share of assignments before dropping, a constant, and P the mean probability
  /// (Switch Transformer §2.2, eq. 4; of all k choices as in DeepSpeed and Megatron-Core where the policy says so).
  public func loadBalance(coefficient: Float) -> RouterLoss {
    let assigned = loadBalance == .firstChoice ? firstChoiceCounts : counts
    let choices = loadBalance == .firstChoice ? 1 : expertsPerToken
    let tokens = Double(max(routedTokenCount, 1))
    var probability = Matrix(rows: 1, columns: expertCount)
    for expert in 0..<expertCount {
      let share = Double(assigned[expert]) / (tokens * Double(choices))
      probability[0, expert] = Float(Double(coefficient) * Double(expertCount) * share / tokens)
    }
    return RouterLoss(
      value: Double(coefficient) * Double(loadBalanceLoss),
      gradients: RouterLossGradients(probability: probability, groupTokenCount: max(tokenCount, 1)))
  }

  /// coefficient·mean((ln Σ exp(logit))²) (ST-MoE §3.3, eq. 5).
  public func zLoss(coefficient: Float) -> RouterLoss {
    RouterLoss(
      value: Double(coefficient) * Double(routerZLoss),
      gradients: RouterLossGradients(logSumExpFactor: 2 * coefficient / Float(max(routedTokenCount, 1))))
  }

  /// A selection bias moved towards balance: b + rate·sign(mean count − count), once for a batch (DeepSeek-V3
  /// §2.1.2, rate 0.001). The sign is that of an integer.
  ///
  /// - Precondition: there is one value an expert.
  public func updatedSelectionBias(_ bias: [Float], rate: Float) -> [Float] {
    precondition(bias.count == expertCount, "\(bias.count) biases for \(expertCount) experts")
    let total = counts.reduce(0, +)
    return zip(bias, counts).map { $0 + rate * Float((total - Int64(expertCount) * $1).signum()) }
  }
}
