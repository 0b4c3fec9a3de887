public import MoECore

/// dL/dP of a loss of the router, the same for all tokens of a group.
public struct ProbabilityGradient: Sendable, Equatable {
  /// The groups.
  public var grouping: TokenGrouping
  /// `[G, E]`.
  public var values: Matrix

  /// Makes a gradient of coefficients `[G, E]`.
  public init(_ values: Matrix, grouping: TokenGrouping = .batch) {
    self.values = values
    self.grouping = grouping
  }
}

/// What the losses of a batch contribute to the gradient of its routers.
public struct RouterLossGradients: Sendable, Equatable {
  /// dL/dP of the probabilities that the losses see, one a grouping; they are added in this order.
  public var probability: [ProbabilityGradient]
  /// dL/d(ln Σ exp(logit)) of a token as a multiple of that value: 2·c/T for a z-loss c·mean(value²).
  public var logSumExpFactor: Float

  /// No losses, or those of coefficients.
  public init(probability: [ProbabilityGradient] = [], logSumExpFactor: Float = 0) {
    self.probability = probability
    self.logSumExpFactor = logSumExpFactor
  }

  /// Both contributions at once.
  ///
  /// - Precondition: they are of the same number of experts and, where of the same grouping, of groups.
  public static func + (left: RouterLossGradients, right: RouterLossGradients) -> RouterLossGradients {
    var sum = left
    sum.logSumExpFactor += right.logSumExpFactor
    for term in right.probability {
      guard let index = sum.probability.firstIndex(where: { $0.grouping == term.grouping }) else {
        sum.probability.append(term)
        continue
      }
      let shape = sum.probability[index].values.shape
      precondition(
        shape == term.values.shape, "gradients of \(shape) and \(term.values.shape) cannot be added")
      for row in 0..<shape[0] {
        for column in 0..<shape[1] {
          sum.probability[index].values[row, column] += term.values[row, column]
        }
      }
    }
    return sum
  }

  /// The part of some sequences of the batch: what the backward pass of a micro-batch of these takes.
  ///
  /// The gradients of the batch and of positions are the same for every micro-batch of whole sequences.
  ///
  /// - Precondition: the gradients of sequences have these.
  public func ofSequences(_ sequences: Range<Int>) -> RouterLossGradients {
    var part = self
    for (index, term) in probability.enumerated() {
      guard case .sequence = term.grouping else { continue }
      var rows = Matrix(rows: sequences.count, columns: term.values.columns)
      for (row, sequence) in sequences.enumerated() {
        for column in 0..<rows.columns { rows[row, column] = term.values[sequence, column] }
      }
      part.probability[index].values = rows
    }
    return part
  }

  /// The part of a rank's tokens, which are those of whole sequences where there are gradients of sequences.
  package func ofTokens(_ tokens: Range<Int>) throws(MoEError) -> RouterLossGradients {
    var part = self
    for (index, term) in probability.enumerated() {
      guard case .sequence(let length) = term.grouping else { continue }
      try term.grouping.validate()
      let first = tokens.lowerBound / length
      let count = term.grouping.groupCount(tokenCount: tokens.count)
      guard tokens.isEmpty || tokens.lowerBound % length == 0, first + count <= term.values.rows else {
        throw .invalidConfiguration(
          "tokens \(tokens) are not those of whole sequences among \(term.values.rows) of \(length) tokens")
      }
      var rows = Matrix(rows: count, columns: term.values.columns)
      for row in 0..<count {
        for column in 0..<rows.columns { rows[row, column] = term.values[first + row, column] }
      }
      part.probability[index].values = rows
    }
    return part
  }

  /// Checks the gradients against a pass over T tokens and E experts.
  package func validate(tokenCount: Int, expertCount: Int) throws(MoEError) {
    for term in probability {
      try term.grouping.validate()
      let groups = term.grouping.groupCount(tokenCount: tokenCount)
      try check(term.values.shape, [groups, expertCount], "the probability gradient of a \(term.grouping)")
    }
  }
}

extension TokenGrouping {
  /// Refuses sequences that cannot exist.
  func validate() throws(MoEError) {
    switch self {
    case .batch: break
    case .sequence(let length), .position(let length):
      guard (1...1 << 24).contains(length) else {
        throw .invalidConfiguration("the length of a sequence is \(length), expected 1 to \(1 << 24)")
      }
    }
  }
}
