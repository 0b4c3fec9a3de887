import MoE

/// A layer, and tokens of a rank that are routed so that every expert gets the same number of rows from every rank. So
/// the bench measures the exchange and not the luck of the routing.
struct BalancedProblem: MoEWeightSource {
  let shape: Shape
  let tokenCount: Int
  private let random: RandomWeights
  private let rank: Int

  init(shape: Shape, tokenCount: Int, rank: Int) {
    self.shape = shape
    self.tokenCount = tokenCount
    self.rank = rank
    random = RandomWeights(shape: shape, precision: .float32)
  }

  /// Returns the experts of a token, best first. Tokens take all pairs in turn.
  func experts(ofToken token: Int) -> (Int, Int) {
    let first = token % shape.expertCount
    let distance = 1 + token / shape.expertCount % (shape.expertCount - 1)
    return (first, (first + distance) % shape.expertCount)
  }

  /// Returns a router whose logits are the first E numbers of a token.
  func router() -> RouterWeights {
    var weight = Matrix(rows: shape.expertCount, columns: shape.hiddenSize)
    for expert in 0..<shape.expertCount { weight[expert, expert] = 1 }
    return RouterWeights(weight: weight)
  }

  func expert(_ index: Int) -> FeedForwardWeights { random.expert(index) }
  func denseBranch() throws -> FeedForwardWeights { try random.denseBranch() }
  func denseBranchGate() throws -> BranchGateWeights { try random.denseBranchGate() }

  /// `[T, D]`.
  func input() -> Activations {
    var input = Activations.random([tokenCount, shape.hiddenSize], seed: UInt64(rank + 1))
    for token in 0..<tokenCount {
      for expert in 0..<shape.expertCount { input.tokens[token, expert] *= 0.1 }
      let (first, second) = experts(ofToken: token)
      input.tokens[token, first] += 4
      input.tokens[token, second] += 3
    }
    return input
  }
}
