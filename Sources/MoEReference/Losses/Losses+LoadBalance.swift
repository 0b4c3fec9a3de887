extension Reference.Losses {
  /// α·E·Σₑ fₑ·Pₑ with fₑ the share of tokens whose first choice is e and Pₑ the mean probability of e (Switch
  /// Transformer §2.2, eq. 4): α when balanced, α·E when one expert takes all with certainty.
  ///
  /// - Parameters:
  ///   - probabilities: `[T, E]`, each token's shares of 1.
  ///   - firstChoiceCounts: `[E]`.
  ///   - coefficient: the factor of the loss.
  ///   - mask: `[T]`, false for a token that takes no part; nil if all do.
  public static func switchTransformer(
    _ probabilities: [[Double]], firstChoiceCounts: [Int], coefficient: Double = 0.01, mask: [Bool]? = nil
  ) -> Reference.RouterLoss {
    dot(probabilities, mask: mask) { tokenCount in
      let scale = coefficient * Double(firstChoiceCounts.count)
      return firstChoiceCounts.map { scale * Double($0) / tokenCount / tokenCount }
    }
  }

  /// E²·meanₑ(Pₑ·fₑ), f of the first choice only (GShard §2.2, Algorithm 1; GLaM in lingvo).
  ///
  /// - Parameters:
  ///   - probabilities: `[T, E]`, each token's shares of 1.
  ///   - firstChoiceCounts: `[E]`.
  ///   - coefficient: the factor of the loss.
  ///   - mask: `[T]`, false for a token that takes no part; nil if all do.
  public static func gshardTop2(
    _ probabilities: [[Double]], firstChoiceCounts: [Int], coefficient: Double = 1, mask: [Bool]? = nil
  ) -> Reference.RouterLoss {
    meanOfProducts(probabilities, counts: firstChoiceCounts, coefficient: coefficient, mask: mask)
  }

  /// E·Σₑ mean(gates)·mean(mask₁): `top1gating` of DeepSpeed.
  ///
  /// DeepSpeed keeps padding in the mean of the gates and in both divisors; here it is in neither.
  ///
  /// - Parameters:
  ///   - probabilities: `[T, E]`, each token's shares of 1.
  ///   - firstChoiceCounts: `[E]`.
  ///   - mask: `[T]`, false for a token that takes no part; nil if all do.
  public static func deepSpeedTop1(
    _ probabilities: [[Double]], firstChoiceCounts: [Int], mask: [Bool]? = nil
  ) -> Reference.RouterLoss {
    switchTransformer(probabilities, firstChoiceCounts: firstChoiceCounts, coefficient: 1, mask: mask)
  }

  /// E²·meanₑ(mean(gates)·mean(mask₁)): `top2gating` of DeepSpeed, which leaves the second choice out.
  ///
  /// - Parameters:
  ///   - probabilities: `[T, E]`, each token's shares of 1.
  ///   - firstChoiceCounts: `[E]`.
  ///   - mask: `[T]`, false for a token that takes no part; nil if all do.
  public static func deepSpeedTop2(
    _ probabilities: [[Double]], firstChoiceCounts: [Int], mask: [Bool]? = nil
  ) -> Reference.RouterLoss {
    meanOfProducts(probabilities, counts: firstChoiceCounts, coefficient: 1, mask: mask)
  }

  /// E²·meanₑ(mean(gates)·mean(maskₖ))/k: `topkgating` of DeepSpeed; 1 when balanced.
  ///
  /// - Parameters:
  ///   - probabilities: `[T, E]`, each token's shares of 1.
  ///   - counts: `[E]`, of all k choices.
  ///   - expertsPerToken: K.
  ///   - mask: `[T]`, false for a token that takes no part; nil if all do.
  public static func deepSpeedTopK(
    _ probabilities: [[Double]], counts: [Int], expertsPerToken: Int, mask: [Bool]? = nil
  ) -> Reference.RouterLoss {
    meanOfProducts(probabilities, counts: counts, coefficient: 1 / Double(expertsPerToken), mask: mask)
  }

  /// coefficient·E/(k·T²)·Σₑ (Σₜ p)·countₑ: `aux_loss` of Megatron-Core; the coefficient when balanced.
  ///
  /// Over several micro-batches the counts may be those of all (`global_aux_loss`).
  ///
  /// - Parameters:
  ///   - probabilities: `[T, E]`, each token's shares of 1.
  ///   - counts: `[E]`, of all k choices. Megatron counts the best k of the scores without selection
  ///     bias, which need not be those that were chosen.
  ///   - expertsPerToken: K.
  ///   - coefficient: the factor of the loss.
  ///   - mask: `[T]`, false for a token that takes no part; nil if all do.
  public static func megatron(
    _ probabilities: [[Double]], counts: [Int], expertsPerToken: Int, coefficient: Double,
    mask: [Bool]? = nil
  ) -> Reference.RouterLoss {
    dot(probabilities, mask: mask) { tokenCount in
      let scale = coefficient * Double(counts.count) / (Double(expertsPerToken) * tokenCount * tokenCount)
      return counts.map { scale * Double($0) }
    }
  }

  /// coefficient·Σₑ fₑ·Pₑ·E with P the mean over these tokens and f the share of the assignments of all micro-batches so
  /// far: `global_aux_loss` of Megatron-Core, which takes the mean count of equal micro-batches.
  ///
  /// - Parameters:
  ///   - probabilities: `[T, E]`, each token's shares of 1.
  ///   - gatheredCounts: `[E]`, of all k choices of all micro-batches.
  ///   - gatheredTokenCount: the tokens of all micro-batches that took part.
  ///   - expertsPerToken: K.
  ///   - coefficient: the factor of the loss.
  ///   - mask: `[T]`, false for a token that takes no part; nil if all do.
  public static func megatronGlobal(
    _ probabilities: [[Double]], gatheredCounts: [Int], gatheredTokenCount: Int, expertsPerToken: Int,
    coefficient: Double, mask: [Bool]? = nil
  ) -> Reference.RouterLoss {
    let assignments = Double(expertsPerToken * max(gatheredTokenCount, 1))
    return dot(probabilities, mask: mask) { tokenCount in
      gatheredCounts.map {
        coefficient * Double(gatheredCounts.count) * Double($0) / assignments / tokenCount
      }
    }
  }

  /// The mean over sequences of ``megatron(_:counts:expertsPerToken:coefficient:mask:)`` of each:
  /// `seq_aux_loss` of Megatron-Core. A sequence of padding alone is not in the mean.
  ///
  /// - Parameters:
  ///   - probabilities: `[T, E]`, each token's shares of 1.
  ///   - counts: `[B, E]`, of all k choices.
  ///   - sequenceLength: the tokens of a sequence.
  ///   - expertsPerToken: K.
  ///   - coefficient: the factor of the loss.
  ///   - mask: `[T]`, false for a token that takes no part; nil if all do.
  public static func megatronSequence(
    _ probabilities: [[Double]], counts: [[Int]], sequenceLength: Int, expertsPerToken: Int,
    coefficient: Double, mask: [Bool]? = nil
  ) -> Reference.RouterLoss {
    meanOverSequences(probabilities, sequenceLength: sequenceLength, mask: mask) { sequence, p, mask in
      megatron(
        p, counts: counts[sequence], expertsPerToken: expertsPerToken, coefficient: coefficient, mask: mask)
    }
  }

  /// The mean over sequences of α·Σₑ fₑ·Pₑ with fₑ = E/(k·T)·Σₜ 1[t chose e] and Pₑ the mean of s/Σs
  /// (DeepSeek-V3 §2.1.2, eq. 17–20; α = 10⁻⁴).
  ///
  /// - Parameters:
  ///   - probabilities: `[T, E]`, each token's shares of 1.
  ///   - counts: `[B, E]`, of all k choices.
  ///   - sequenceLength: the tokens of a sequence.
  ///   - expertsPerToken: K.
  ///   - coefficient: the factor of the loss.
  ///   - mask: `[T]`, false for a token that takes no part; nil if all do.
  public static func deepSeekV3Sequence(
    _ probabilities: [[Double]], counts: [[Int]], sequenceLength: Int, expertsPerToken: Int,
    coefficient: Double = 1e-4, mask: [Bool]? = nil
  ) -> Reference.RouterLoss {
    meanOverSequences(probabilities, sequenceLength: sequenceLength, mask: mask) { sequence, p, mask in
      dot(p, mask: mask) { tokenCount in
        let f = counts[sequence].map {
          Double(counts[sequence].count) / (Double(expertsPerToken) * tokenCount) * Double($0)
        }
        return f.map { coefficient * $0 / tokenCount }
      }
    }
  }

  /// coefficient·E²·meanₑ(Pₑ·fₑ) with fₑ = countₑ/T.
  private static func meanOfProducts(
    _ probabilities: [[Double]], counts: [Int], coefficient: Double, mask: [Bool]?
  ) -> Reference.RouterLoss {
    dot(probabilities, mask: mask) { tokenCount in
      let expertCount = Double(counts.count)
      let scale = coefficient * expertCount * expertCount
      return counts.map { scale * (Double($0) / tokenCount) / (expertCount * tokenCount) }
    }
  }

  /// Σₜₑ cₑ·p[t, e] over the tokens that take part: what every loss of the form Σ f·P is, f being constant.
  ///
  /// - Parameter coefficients: c `[E]` for a number of tokens, which is not 0.
  private static func dot(
    _ probabilities: [[Double]], mask: [Bool]?, _ coefficients: (Double) -> [Double]
  ) -> Reference.RouterLoss {
    var loss = Reference.RouterLoss(zerosFor: probabilities)
    let tokens = routed(probabilities.indices, mask: mask)
    if tokens.isEmpty { return loss }
    let c = coefficients(Double(tokens.count))
    for token in tokens {
      loss.value += Reference.dot(c, probabilities[token])
      loss.probabilityGradient[token] = c
    }
    return loss
  }

  /// The mean of one loss a sequence, given its index, probabilities and mask, over those with tokens.
  private static func meanOverSequences(
    _ probabilities: [[Double]], sequenceLength: Int, mask: [Bool]?,
    _ lossOfSequence: (Int, [[Double]], [Bool]) -> Reference.RouterLoss
  ) -> Reference.RouterLoss {
    var loss = Reference.RouterLoss(zerosFor: probabilities)
    let sequences = groups(tokenCount: probabilities.count, tokensPerGroup: sequenceLength)
    let present = sequences.indices.filter { !routed(sequences[$0], mask: mask).isEmpty }
    for sequence in present {
      let tokens = sequences[sequence]
      let part = lossOfSequence(
        sequence, Array(probabilities[tokens]), tokens.map { mask?[$0] ?? true })
      loss.value += part.value / Double(present.count)
      for (token, gradient) in zip(tokens, part.probabilityGradient) {
        loss.probabilityGradient[token] = gradient.map { $0 / Double(present.count) }
      }
    }
    return loss
  }
}

extension Reference.RouterLoss {
  /// Nothing, for probabilities `[T, E]`.
  init(zerosFor probabilities: [[Double]]) {
    value = 0
    probabilityGradient = probabilities.map { $0.map { _ in 0 } }
    logSumExpGradient = probabilities.map { _ in 0 }
  }
}
