public import MoECore

/// The oracle: a Mixture-of-Experts layer in plain Swift and Double, written as its equations read.
///
/// It imports no C and shares no helper with the kernels it judges. Each stage is one file: the router, the
/// permutation, the experts, the combination; ``layer(_:weights:configuration:mask:precision:)`` composes
/// them. ``tokenByToken(_:weights:configuration:mask:precision:)`` computes the same from the definition,
/// without the stages, and judges them.
///
/// The backward pass is in `Backward/`, a file for each stage, composed by
/// ``gradients(_:weights:configuration:routing:permutation:outputGradient:loss:)``; the router's losses, with
/// their gradients, are in `Losses/`. Differences of the forward pass judge both.
///
/// Shapes use the letters of the papers: T tokens, E experts, K experts per token, D hidden size, F
/// feed-forward size, M kept rows. A `[T, E]` value is an array of T rows.
public enum Reference {
  /// What the operands of the experts' matrix products are rounded to; sums are always Double.
  public enum Precision: Sendable, Equatable {
    /// Nothing is rounded.
    case exact
    /// Expert weights, the input rows (after an input weight has multiplied them) and the activated hidden
    /// rows are rounded to bfloat16, ties to even; those of the dense branch's network too. Biases, router
    /// and gates are not.
    case bfloat16

    /// `value` as an operand of a product.
    public func rounded(_ value: Double) -> Double {
      switch self {
      case .exact: value
      case .bfloat16: roundedToBFloat16(value)
      }
    }
  }

  /// `value` rounded once to the nearest bfloat16, ties to even.
  ///
  /// bfloat16 has 8 significant bits and the exponents of fp32, so its spacing at `value` is 2^(e − 7) with
  /// e the exponent of `value`, or −126 where that is smaller. Values that round to 2^128 become infinite.
  public static func roundedToBFloat16(_ value: Double) -> Double {
    guard value.isFinite, value != 0 else { return value }
    let spacing = Double(sign: .plus, exponent: max(Int(value.exponent), -126) - 7, significand: 1)
    let rounded = (value / spacing).rounded(.toNearestOrEven) * spacing
    return abs(rounded) < 0x1p128 ? rounded : value.sign == .plus ? .infinity : -.infinity
  }

  /// The rows of a matrix, widened.
  public static func rows(_ matrix: Matrix) -> [[Double]] {
    (0..<matrix.rows).map { row in (0..<matrix.columns).map { Double(matrix[row, $0]) } }
  }

  /// Σ aₖ·bₖ in the order of k.
  static func dot(_ a: [Double], _ b: [Double]) -> Double {
    precondition(a.count == b.count, "a dot product of \(a.count) and \(b.count) elements")
    var sum = 0.0
    for k in a.indices { sum += a[k] * b[k] }
    return sum
  }

  /// x·Wᵀ + b for one row x `[D]`, W `[N, D]`, b `[N]`; operands are rounded to `precision`.
  static func linear(
    _ x: [Double], _ weight: Matrix, bias: [Float]?, precision: Precision = .exact
  ) -> [Double] {
    let operand = x.map(precision.rounded)
    return (0..<weight.rows).map { n in
      let row = (0..<weight.columns).map { precision.rounded(Double(weight[n, $0])) }
      return dot(operand, row) + Double(bias?[n] ?? 0)
    }
  }
}
