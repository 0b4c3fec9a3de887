/// Activations of shape `[…, D]`, stored as the matrix `[T, D]` of their tokens. T is the product of all extents
/// before D.
public struct Activations: Sendable, Equatable {
  /// The shape, such as `[batch, sequence, hidden]`; the last extent is the hidden size.
  public let shape: [Int]
  /// One row per token, in the order of the flattened leading extents.
  public var tokens: Matrix

  /// Gives `tokens` a shape.
  ///
  /// - Throws: ``MoEError/shapeMismatch(what:expected:actual:)`` unless `shape` ends in the matrix's columns
  ///   and its leading extents multiply to the matrix's rows.
  public init(shape: [Int], tokens: Matrix) throws(MoEError) {
    guard let hidden = shape.last, hidden == tokens.columns, shape.dropLast().reduce(1, *) == tokens.rows
    else {
      throw .shapeMismatch(what: "the token matrix", expected: shape, actual: tokens.shape)
    }
    self.shape = shape
    self.tokens = tokens
  }

  /// Returns nearly standard-normal activations. One seed gives the same activations on every machine.
  ///
  /// - Precondition: `shape` has at least one extent and none is negative.
  public static func random(_ shape: [Int], seed: UInt64) -> Activations {
    precondition(!shape.isEmpty && shape.allSatisfy { $0 >= 0 }, "activations need a shape, got \(shape)")
    let columns = shape[shape.count - 1]
    var generator = SeededGenerator(seed: seed)
    let tokens = Matrix.normal(
      rows: shape.dropLast().reduce(1, *), columns: columns, deviation: 1, using: &generator)
    return Activations(uncheckedShape: shape, tokens: tokens)
  }

  /// The number of tokens T.
  public var tokenCount: Int { tokens.rows }

  /// The number of tokens of one sequence: the extent before the hidden size, or T if the shape has no other extent.
  public var sequenceLength: Int { shape.count >= 2 ? shape[shape.count - 2] : tokens.rows }

  private init(uncheckedShape: [Int], tokens: Matrix) {
    shape = uncheckedShape
    self.tokens = tokens
  }
}
