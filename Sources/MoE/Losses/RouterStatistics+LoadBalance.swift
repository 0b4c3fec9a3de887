public import MoECore

/// Losses of the form Σ f·P. The gradient with respect to a token's probabilities is one number per expert.
extension RouterStatistics {
  /// Returns coefficient·E·Σ f·P, with f the share of first choices: the coefficient when balanced, E times that when
  /// one expert takes all with certainty (Switch Transformer §2.2, eq. 4; α = 0.01).
  public func switchTransformer(coefficient: Double = 0.01) -> RouterLoss {
    product(coefficient * Double(expertCount), of: \.firstChoiceCounts)
  }

  /// Returns coefficient·E²·mean(P·f), with f the share of first choices (GShard §2.2, Algorithm 1; GLaM).
  public func gshardTop2(coefficient: Double = 1) -> RouterLoss {
    product(coefficient * Double(expertCount), of: \.firstChoiceCounts)
  }

  /// Returns E·Σ mean(gates)·mean(mask₁): the loss of DeepSpeed's top-1 gate. DeepSpeed keeps padding in the mean of
  /// the gates and in the divisors; here it is in neither.
  public func deepSpeedTop1() -> RouterLoss { switchTransformer(coefficient: 1) }

  /// Returns E²·mean(mean(gates)·mean(mask₁)): the loss of DeepSpeed's top-2 gate, which ignores the second choice.
  public func deepSpeedTop2() -> RouterLoss { gshardTop2() }

  /// Returns E²·mean(mean(gates)·mean(maskₖ))/k: the loss of DeepSpeed's top-k gate; 1 when balanced.
  public func deepSpeedTopK() -> RouterLoss { megatron(coefficient: 1) }

  /// Returns coefficient·E/(k·T²)·Σ (Σ p)·count: `aux_loss` of Megatron-Core; the coefficient when balanced.
  /// `global_aux_loss` approaches this loss over the statistics of all micro-batches.
  ///
  /// Megatron counts the k best scores without selection bias. These need not be the chosen experts.
  public func megatron(coefficient: Double) -> RouterLoss {
    product(coefficient * Double(expertCount) / Double(expertsPerToken), of: \.counts)
  }

  /// Returns coefficient·E·Σ f·P: `global_aux_loss` of Megatron-Core, which averages the counts of equal micro-batches.
  /// P is over these tokens. f is the share of assignments in `gathered`, for example over all micro-batches so far.
  ///
  /// - Throws: `MoEError.invalidConfiguration` for statistics with another number of experts.
  public func megatronGlobal(
    coefficient: Double, gathered: RouterStatistics
  ) throws(MoEError) -> RouterLoss {
    guard gathered.expertCount == expertCount, gathered.expertsPerToken == expertsPerToken else {
      throw .invalidConfiguration(
        "counts of top-\(gathered.expertsPerToken) of \(gathered.expertCount) experts have no loss with "
          + "probabilities of top-\(expertsPerToken) of \(expertCount)")
    }
    let (own, all) = (ofBatch, gathered.ofBatch)
    guard own.tokenCounts[0] > 0, all.tokenCounts[0] > 0 else { return own.linear { _, _ in 0 } }
    let scale =
      coefficient * Double(expertCount) / Double(expertsPerToken) / Double(all.tokenCounts[0])
      / Double(own.tokenCounts[0])
    return own.linear { _, expert in scale * Double(all.counts[expert]) }
  }

  /// Returns the mean of ``megatron(coefficient:)`` over sequences: `seq_aux_loss` of Megatron-Core. The mean skips a
  /// sequence that contains only padding.
  ///
  /// - Throws: `MoEError.invalidConfiguration` for statistics that are not grouped by sequence.
  public func megatronSequence(coefficient: Double) throws(MoEError) -> RouterLoss {
    guard case .sequence = grouping else {
      throw .invalidConfiguration("a loss of sequences cannot be taken of statistics of a \(grouping)")
    }
    let present = tokenCounts.count { $0 > 0 }
    let scale = coefficient * Double(expertCount) / Double(expertsPerToken) / Double(max(present, 1))
    return linear { sequence, expert in
      let tokens = Double(tokenCounts[sequence])
      return scale * Double(counts[sequence * expertCount + expert]) / tokens / tokens
    }
  }

  /// Returns the mean over sequences of coefficient·Σ f·P with f = E/(k·T)·count and P the mean of the scores over
  /// their sum (DeepSeek-V3 §2.1.2, eq. 17–20; α = 10⁻⁴).
  ///
  /// - Throws: `MoEError.invalidConfiguration` for statistics that are not grouped by sequence.
  public func deepSeekV3Sequence(coefficient: Double = 1e-4) throws(MoEError) -> RouterLoss {
    try megatronSequence(coefficient: coefficient)
  }

  /// Returns coefficient·E·Σ f·P with f each expert's share of the choices that are kept, and P the sum of its
  /// probabilities over all tokens divided by the number of choices that are kept, a constant (the Switch gate of
  /// FastMoE).
  ///
  /// - Parameters:
  ///   - kept: `[E]`: the number of choices of each expert that are kept.
  ///   - coefficient: the factor of the loss.
  public func fastMoESwitch(kept: [Int64], coefficient: Double = 1) -> RouterLoss {
    let survivors = Double(max(kept.reduce(0, +), 1))
    return ofBatch.linear { _, expert in
      coefficient * Double(expertCount) * Double(kept[expert]) / survivors / survivors
    }
  }

  /// Returns coefficient·mean((ln Σ exp(logit))²), which keeps logits small (ST-MoE §3.3, eq. 5; c = 0.001).
  public func zLoss(coefficient: Double = 0.001) -> RouterLoss {
    let tokens = Double(max(routedTokenCount, 1))
    return RouterLoss(
      value: coefficient * logSumExpSquares / tokens,
      gradients: RouterLossGradients(logSumExpFactor: Float(2 * coefficient / tokens)))
  }

  /// Returns scale·Σ (count/T)·P over the whole batch.
  private func product(_ scale: Double, of assignments: KeyPath<Self, [Int64]>) -> RouterLoss {
    let batch = ofBatch
    let tokens = Double(batch.tokenCounts[0])
    return batch.linear { _, expert in scale * Double(batch[keyPath: assignments][expert]) / tokens / tokens }
  }

  /// Returns Σ c[g, e]·Σₜ p[t, e] over the groups g that have tokens, where `coefficient` gives c.
  func linear(_ coefficient: (_ group: Int, _ expert: Int) -> Double) -> RouterLoss {
    var value = 0.0
    var gradient = Matrix(rows: groupCount, columns: expertCount)
    for group in 0..<groupCount where tokenCounts[group] > 0 {
      for expert in 0..<expertCount {
        let slope = coefficient(group, expert)
        value += slope * probabilitySum(group, expert)
        gradient[group, expert] = Float(slope)
      }
    }
    return RouterLoss(
      value: value,
      gradients: RouterLossGradients(probability: [ProbabilityGradient(gradient, grouping: grouping)]))
  }
}
