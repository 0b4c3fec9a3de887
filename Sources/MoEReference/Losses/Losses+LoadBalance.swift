extension Reference.Losses {
  /// Returns α·E·Σₑ fₑ·Pₑ, with fₑ the share of tokens whose first choice is e and Pₑ the mean probability of e (Switch
  /// Transformer §2.2, eq. 4). It is α if the load is balanced, and α·E if one expert gets all tokens with
  /// probability 1.
  ///
  /// - Parameters:
  ///   - probabilities: the probabilities `[T, E]`, which add up to 1 for each token.
  ///   - firstChoiceCounts: the number of first choices of each expert, `[E]`.
  ///   - coefficient: the factor of the loss.
  ///   - mask: the mask `[T]`, false for a masked token; nil if all tokens take part.
  public static func switchTransformer(
    _ probabilities: [[Double]], firstChoiceCounts: [Int], coefficient: Double = 0.01, mask: [Bool]? = nil
  ) -> Reference.RouterLoss {
    dot(probabilities, mask: mask) { tokenCount in
      let scale = coefficient * Double(firstChoiceCounts.count)
      return firstChoiceCounts.map { scale * Double($0) / tokenCount / tokenCount }
    }
  }

  /// Returns E²·meanₑ(Pₑ·fₑ), with f from first choices only (GShard §2.2, Algorithm 1; GLaM in lingvo).
  ///
  /// - Parameters:
  ///   - probabilities: the probabilities `[T, E]`, which add up to 1 for each token.
  ///   - firstChoiceCounts: the number of first choices of each expert, `[E]`.
  ///   - coefficient: the factor of the loss.
  ///   - mask: the mask `[T]`, false for a masked token; nil if all tokens take part.
  public static func gshardTop2(
    _ probabilities: [[Double]], firstChoiceCounts: [Int], coefficient: Double = 1, mask: [Bool]? = nil
  ) -> Reference.RouterLoss {
    meanOfProducts(probabilities, counts: firstChoiceCounts, coefficient: coefficient, mask: mask)
  }

  /// Returns E·Σₑ mean(gates)·mean(mask₁): `top1gating` of DeepSpeed.
  ///
  /// DeepSpeed includes padding in the mean of the gates and in both divisors. This function leaves padding out of all
  /// three.
  ///
  /// - Parameters:
  ///   - probabilities: the probabilities `[T, E]`, which add up to 1 for each token.
  ///   - firstChoiceCounts: the number of first choices of each expert, `[E]`.
  ///   - mask: the mask `[T]`, false for a masked token; nil if all tokens take part.
  public static func deepSpeedTop1(
    _ probabilities: [[Double]], firstChoiceCounts: [Int], mask: [Bool]? = nil
  ) -> Reference.RouterLoss {
    switchTransformer(probabilities, firstChoiceCounts: firstChoiceCounts, coefficient: 1, mask: mask)
  }

  /// Returns E²·meanₑ(mean(gates)·mean(mask₁)): `top2gating` of DeepSpeed, which does not count second choices.
  ///
  /// - Parameters:
  ///   - probabilities: the probabilities `[T, E]`, which add up to 1 for each token.
  ///   - firstChoiceCounts: the number of first choices of each expert, `[E]`.
  ///   - mask: the mask `[T]`, false for a masked token; nil if all tokens take part.
  public static func deepSpeedTop2(
    _ probabilities: [[Double]], firstChoiceCounts: [Int], mask: [Bool]? = nil
  ) -> Reference.RouterLoss {
    meanOfProducts(probabilities, counts: firstChoiceCounts, coefficient: 1, mask: mask)
  }

  /// Returns E²·meanₑ(mean(gates)·mean(maskₖ))/k: `topkgating` of DeepSpeed. It is 1 if the load is balanced.
  ///
  /// - Parameters:
  ///   - probabilities: the probabilities `[T, E]`, which add up to 1 for each token.
  ///   - counts: the number of choices of each expert, `[E]`, over all k choices.
  ///   - expertsPerToken: K, the number of experts per token.
  ///   - mask: the mask `[T]`, false for a masked token; nil if all tokens take part.
  public static func deepSpeedTopK(
    _ probabilities: [[Double]], counts: [Int], expertsPerToken: Int, mask: [Bool]? = nil
  ) -> Reference.RouterLoss {
    meanOfProducts(probabilities, counts: counts, coefficient: 1 / Double(expertsPerToken), mask: mask)
  }

  /// Returns coefficient·E/(k·T²)·Σₑ (Σₜ p)·countₑ: `aux_loss` of Megatron-Core. It equals the coefficient if the load
  /// is balanced.
  ///
  /// With several micro-batches, the counts may be those of all micro-batches (`global_aux_loss`).
  ///
  /// - Parameters:
  ///   - probabilities: the probabilities `[T, E]`, which add up to 1 for each token.
  ///   - counts: the number of choices of each expert, `[E]`, over all k choices. Megatron counts the experts with the
  ///     k best scores without selection bias; the layer may have chosen other experts.
  ///   - expertsPerToken: K, the number of experts per token.
  ///   - coefficient: the factor of the loss.
  ///   - mask: the mask `[T]`, false for a masked token; nil if all tokens take part.
  public static func megatron(
    _ probabilities: [[Double]], counts: [Int], expertsPerToken: Int, coefficient: Double,
    mask: [Bool]? = nil
  ) -> Reference.RouterLoss {
    dot(probabilities, mask: mask) { tokenCount in
      let scale = coefficient * Double(counts.count) / (Double(expertsPerToken) * tokenCount * tokenCount)
      return counts.map { scale * Double($0) }
    }
  }

  /// Returns coefficient·Σₑ fₑ·Pₑ·E, with P the mean over these tokens and f the share of the choices of all
  /// micro-batches so far: `global_aux_loss` of Megatron-Core, which uses the mean count of micro-batches of equal
  /// size.
  ///
  /// - Parameters:
  ///   - probabilities: the probabilities `[T, E]`, which add up to 1 for each token.
  ///   - gatheredCounts: the number of choices of each expert, `[E]`, over all k choices of all micro-batches.
  ///   - gatheredTokenCount: the number of tokens that took part, over all micro-batches.
  ///   - expertsPerToken: K, the number of experts per token.
  ///   - coefficient: the factor of the loss.
  ///   - mask: the mask `[T]`, false for a masked token; nil if all tokens take part.
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

  /// Returns the mean of ``megatron(_:counts:expertsPerToken:coefficient:mask:)`` over the sequences: `seq_aux_loss` of
  /// Megatron-Core. A sequence whose tokens are all padding is not in the mean.
  ///
  /// - Parameters:
  ///   - probabilities: the probabilities `[T, E]`, which add up to 1 for each token.
  ///   - counts: the number of choices of each expert in each sequence, `[B, E]`, over all k choices.
  ///   - sequenceLength: the number of tokens of a sequence.
  ///   - expertsPerToken: K, the number of experts per token.
  ///   - coefficient: the factor of the loss.
  ///   - mask: the mask `[T]`, false for a masked token; nil if all tokens take part.
  public static func megatronSequence(
    _ probabilities: [[Double]], counts: [[Int]], sequenceLength: Int, expertsPerToken: Int,
    coefficient: Double, mask: [Bool]? = nil
  ) -> Reference.RouterLoss {
    meanOverSequences(probabilities, sequenceLength: sequenceLength, mask: mask) { sequence, p, mask in
      megatron(
        p, counts: counts[sequence], expertsPerToken: expertsPerToken, coefficient: coefficient, mask: mask)
    }
  }

  /// Returns the mean over sequences of α·Σₑ fₑ·Pₑ, with fₑ = E/(k·T)·Σₜ 1[t chose e] and Pₑ the mean of s/Σs
  /// (DeepSeek-V3 §2.1.2, eq. 17–20; α = 10⁻⁴).
  ///
  /// - Parameters:
  ///   - probabilities: the probabilities `[T, E]`, which add up to 1 for each token.
  ///   - counts: the number of choices of each expert in each sequence, `[B, E]`, over all k choices.
  ///   - sequenceLength: the number of tokens of a sequence.
  ///   - expertsPerToken: K, the number of experts per token.
  ///   - coefficient: the factor of the loss.
  ///   - mask: the mask `[T]`, false for a masked token; nil if all tokens take part.
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

  /// Returns coefficient·E²·meanₑ(Pₑ·fₑ) with fₑ = countₑ/T.
  private static func meanOfProducts(
    _ probabilities: [[Double]], counts: [Int], coefficient: Double, mask: [Bool]?
  ) -> Reference.RouterLoss {
    dot(probabilities, mask: mask) { tokenCount in
      let expertCount = Double(counts.count)
      let scale = coefficient * expertCount * expertCount
      return counts.map { scale * (Double($0) / tokenCount) / (expertCount * tokenCount) }
    }
  }

  /// Returns Σₜₑ cₑ·p[t, e] over the tokens that take part. Every loss Σ f·P with a constant f has this form.
  ///
  /// - Parameter coefficients: a function that returns c `[E]` for the number of tokens that take part, which is not 0.
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

  /// Returns the mean of one loss per sequence over the sequences with at least one token that takes part.
  /// `lossOfSequence` gets the index, the probabilities and the mask of a sequence.
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
  /// Makes a loss of 0 with gradients of zeros, for probabilities `[T, E]`.
  init(zerosFor probabilities: [[Double]]) {
    value = 0
    probabilityGradient = probabilities.map { $0.map { _ in 0 } }
    logSumExpGradient = probabilities.map { _ in 0 }
  }
}
