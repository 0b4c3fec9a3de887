public import MoECore

extension Reference {
  /// A loss of the router, or a sum of such losses, with its gradients.
  public struct RouterLoss: Sendable, Equatable {
    /// The loss, multiplied by its coefficient.
    public var value: Double
    /// `[T, E]`: dL/dp of the probabilities that the losses use, ``Routing/scores``; 0 for a masked token.
    public var probabilityGradient: [[Double]]
    /// `[T]`: dL/dz with z = ln Σ exp(logit); 0 for a masked token.
    public var logSumExpGradient: [Double]

    /// Makes a loss.
    public init(value: Double, probabilityGradient: [[Double]], logSumExpGradient: [Double]) {
      self.value = value
      self.probabilityGradient = probabilityGradient
      self.logSumExpGradient = logSumExpGradient
    }

    /// Makes the loss Σ c[g, e]·p[t, e], with g the group of token t, from given coefficients.
    ///
    /// - Parameters:
    ///   - value: the value of the loss.
    ///   - coefficients: the gradient c = dL/dp `[G, E]`, which is equal for all tokens of a group.
    ///   - tokensPerGroup: the length of a group, which is a run of consecutive tokens; the last group may be shorter.
    ///   - tokenCount: T, the number of tokens.
    public init(value: Double = 0, coefficients: [[Double]], tokensPerGroup: Int, tokenCount: Int) {
      self.value = value
      probabilityGradient = (0..<tokenCount).map { coefficients[$0 / tokensPerGroup] }
      logSumExpGradient = Array(repeating: 0, count: tokenCount)
    }

    /// Returns the sum of two losses.
    public static func + (left: Self, right: Self) -> Self {
      RouterLoss(
        value: left.value + right.value,
        probabilityGradient: sum(left.probabilityGradient, right.probabilityGradient),
        logSumExpGradient: sum(left.logSumExpGradient, right.logSumExpGradient))
    }
  }

  /// The losses that keep a router balanced, as the published systems compute them, with their gradients.
  ///
  /// Probabilities are `[T, E]` and add up to 1 for each token: the softmax over all experts, or the sigmoids divided
  /// by their sum. Counts are numbers of choices before dropping. They are constants, so the gradient flows only
  /// through the probabilities (Switch Transformer §2.2). A token whose `mask` is false is in no sum, no count and no
  /// divisor, so padding changes no loss. The loss of a batch without tokens is 0.
  public enum Losses {
    /// Returns `[G, E]`: for each run of `tokensPerGroup` tokens, the number of choices of each expert. The last run
    /// may be shorter.
    ///
    /// - Parameters:
    ///   - expertIDs: the chosen experts `[T, K]`; −1 for a masked token.
    ///   - expertCount: E, the number of experts.
    ///   - tokensPerGroup: the number of tokens of a run.
    ///   - assignments: the choices that are counted: all choices, or the first choice of each token.
    public static func counts(
      _ expertIDs: [[Int]], expertCount: Int, tokensPerGroup: Int, of assignments: RoutingPolicy.LoadBalance
    ) -> [[Int]] {
      groups(tokenCount: expertIDs.count, tokensPerGroup: tokensPerGroup).map { group in
        var counts = Array(repeating: 0, count: expertCount)
        for token in group {
          let chosen = assignments.choices == .first ? expertIDs[token].prefix(1) : expertIDs[token][...]
          for expert in chosen where expert >= 0 { counts[expert] += 1 }
        }
        return counts
      }
    }

    /// Returns runs of `tokensPerGroup` consecutive tokens; the last run may be shorter.
    static func groups(tokenCount: Int, tokensPerGroup: Int) -> [Range<Int>] {
      stride(from: 0, to: tokenCount, by: max(tokensPerGroup, 1)).map {
        $0..<min($0 + max(tokensPerGroup, 1), tokenCount)
      }
    }

    /// Returns the tokens of `range` that take part.
    static func routed(_ range: Range<Int>, mask: [Bool]?) -> [Int] { range.filter { mask?[$0] ?? true } }
  }
}
