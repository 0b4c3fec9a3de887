public import MoECore

/// The gradient dL/dP of a router loss. It is the same for all tokens of a group.
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

/// The contribution of a batch's losses to the gradients of its routers.
public struct RouterLossGradients: Sendable, Equatable {
  /// The gradients dL/dP of the probabilities in the losses, one per grouping. They are added in this order.
  public var probability: [ProbabilityGradient]
  /// The factor f in dL/d(lse) = f·lse, where lse = ln Σ exp(logit) of a token: 2·c/T for a z-loss c·mean(lse²).
  public var logSumExpFactor: Float

  /// Makes gradients from their coefficients; without arguments, those of no loss.
  public init(probability: [ProbabilityGradient] = [], logSumExpFactor: Float = 0) {
    self.probability = probability
    self.logSumExpFactor = logSumExpFactor
  }

  /// Returns the sum of two contributions.
  ///
  /// - Precondition: both have the same number of experts. Gradients of the same grouping have the same number of
  ///   groups.
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

  /// Returns the part for some sequences of the batch, for the backward pass of a micro-batch of these sequences.
  ///
  /// Gradients of groupings by batch or by position are the same for every micro-batch of whole sequences.
  ///
  /// - Precondition: every gradient grouped by sequence contains these sequences.
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

  /// Returns the part for a rank's tokens. If a gradient is grouped by sequence, the tokens must form whole sequences.
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
  /// Throws an error for sequence lengths that cannot exist.
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
