public import MoECore

/// The oracle: a Mixture-of-Experts layer in plain Swift and Double, written like its equations.
///
/// It imports no C and shares no helper with the kernels that are tested against it. Each stage is one file: the
/// router, the permutation, the experts, the combination. ``layer(_:weights:configuration:mask:precision:)`` calls
/// them in order. ``tokenByToken(_:weights:configuration:mask:precision:)`` computes the same layer from the
/// definition, without the stages; the tests compare the two.
///
/// The backward pass is in `Backward/`, one file per stage;
/// ``gradients(_:weights:configuration:routing:permutation:outputGradient:loss:)`` calls the stages in order. The
/// router's losses, with their gradients, are in `Losses/`. The tests compare both with differences of the forward
/// pass.
///
/// Shapes use the letters of the papers: T tokens, E experts, K experts per token, D hidden size, F
/// feed-forward size, M kept rows. A `[T, E]` value is an array of T rows.
public enum Reference {
  /// The number format to which the operands of the experts' matrix products are rounded. Sums are always Double.
  public enum Precision: Sendable, Equatable {
    /// The operands are not rounded.
    case exact
    /// The weights of the experts, their input rows (after multiplication by an input weight) and their activated
    /// hidden rows are rounded to bfloat16, ties to even. The dense branch's network is rounded in the same way.
    /// Biases, the router and the dense branch's gate are not rounded.
    case bfloat16

    /// Returns `value`, rounded as an operand of a product.
    public func rounded(_ value: Double) -> Double {
      switch self {
      case .exact: value
      case .bfloat16: roundedToBFloat16(value)
      }
    }
  }

  /// Returns `value`, rounded once to the nearest bfloat16, ties to even.
  ///
  /// bfloat16 has 8 significant bits and the exponents of fp32. So its spacing at `value` is 2^(e − 7), with e the
  /// exponent of `value`, or −126 if that exponent is smaller. Values that round to 2^128 become infinite.
  public static func roundedToBFloat16(_ value: Double) -> Double {
    guard value.isFinite, value != 0 else { return value }
    let spacing = Double(sign: .plus, exponent: max(Int(value.exponent), -126) - 7, significand: 1)
    let rounded = (value / spacing).rounded(.toNearestOrEven) * spacing
    return abs(rounded) < 0x1p128 ? rounded : value.sign == .plus ? .infinity : -.infinity
  }

  /// Returns the rows of a matrix, converted to Double.
  public static func rows(_ matrix: Matrix) -> [[Double]] {
    (0..<matrix.rows).map { row in (0..<matrix.columns).map { Double(matrix[row, $0]) } }
  }

  /// Returns Σ aₖ·bₖ, added in the order of k.
  static func dot(_ a: [Double], _ b: [Double]) -> Double {
    precondition(a.count == b.count, "a dot product of \(a.count) and \(b.count) elements")
    var sum = 0.0
    for k in a.indices { sum += a[k] * b[k] }
    return sum
  }

  /// Returns x·Wᵀ + b for one row x `[D]`, W `[N, D]`, b `[N]`; the operands x and W are rounded to `precision`.
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
