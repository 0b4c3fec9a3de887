public import MoECore

extension Reference {
  /// A loss of the router and its gradient; a sum of losses is one too.
  public struct RouterLoss: Sendable, Equatable {
    /// The loss, its coefficient included.
    public var value: Double
    /// `[T, E]`: dL/dp of the probabilities that the losses see, ``Routing/scores``; 0 where masked.
    public var probabilityGradient: [[Double]]
    /// `[T]`: dL/dz with z = ln Σ exp(logit); 0 where masked.
    public var logSumExpGradient: [Double]

    /// Makes a loss.
    public init(value: Double, probabilityGradient: [[Double]], logSumExpGradient: [Double]) {
      self.value = value
      self.probabilityGradient = probabilityGradient
      self.logSumExpGradient = logSumExpGradient
    }

    /// The loss Σ c[g, e]·p[t, e] with g the group of token t, for coefficients that something else has computed.
    ///
    /// - Parameters:
    ///   - value: the loss.
    ///   - coefficients: c = dL/dp `[G, E]`, the same for all tokens of a group.
    ///   - tokensPerGroup: the length of a group, a run of consecutive tokens; the last may be short.
    ///   - tokenCount: T.
    public init(value: Double = 0, coefficients: [[Double]], tokensPerGroup: Int, tokenCount: Int) {
      self.value = value
      probabilityGradient = (0..<tokenCount).map { coefficients[$0 / tokensPerGroup] }
      logSumExpGradient = Array(repeating: 0, count: tokenCount)
    }

    /// Both losses at once.
    public static func + (left: Self, right: Self) -> Self {
      RouterLoss(
        value: left.value + right.value,
        probabilityGradient: sum(left.probabilityGradient, right.probabilityGradient),
        logSumExpGradient: sum(left.logSumExpGradient, right.logSumExpGradient))
    }
  }

  /// The losses that keep a router balanced, as their systems compute them, with their gradients.
  ///
  /// Probabilities are `[T, E]`, each token's shares of 1: the softmax over all experts or sigmoids over their
  /// sum. Counts are assignments before dropping; they are constants, and the gradient flows through the
  /// probabilities alone (Switch Transformer §2.2). A token whose `mask` is false is in no sum, no count and
  /// no divisor, so that every loss is that of the batch without its padding. A loss of no tokens is 0.
  public enum Losses {
    /// `[G, E]`: how many tokens of each run of `tokensPerGroup` chose each expert; the last run may be short.
    ///
    /// - Parameters:
    ///   - expertIDs: `[T, K]`, −1 where masked.
    ///   - expertCount: E.
    ///   - tokensPerGroup: the tokens of a run.
    ///   - assignments: the choices that are counted: all, or each token's first.
    public static func counts(
      _ expertIDs: [[Int]], expertCount: Int, tokensPerGroup: Int, of assignments: RoutingPolicy.LoadBalance
    ) -> [[Int]] {
      groups(tokenCount: expertIDs.count, tokensPerGroup: tokensPerGroup).map { group in
        var counts = Array(repeating: 0, count: expertCount)
        for token in group {
          let chosen = assignments == .firstChoice ? expertIDs[token].prefix(1) : expertIDs[token][...]
          for expert in chosen where expert >= 0 { counts[expert] += 1 }
        }
        return counts
      }
    }

    /// Runs of `tokensPerGroup` consecutive tokens; the last may be short.
    static func groups(tokenCount: Int, tokensPerGroup: Int) -> [Range<Int>] {
      stride(from: 0, to: tokenCount, by: max(tokensPerGroup, 1)).map {
        $0..<min($0 + max(tokensPerGroup, 1), tokenCount)
      }
    }

    /// The tokens of `range` that take part.
    static func routed(_ range: Range<Int>, mask: [Bool]?) -> [Int] { range.filter { mask?[$0] ?? true } }
  }
}
