public import MoECore

extension Reference {
  /// Gradients of y = x·Wᵀ + b, x `[D]`, W `[N, D]`, b and y `[N]`.
  public struct LinearGradients: Sendable, Equatable {
    /// dL/dx `[D]`.
    public var input: [Double]
    /// dL/dW `[N, D]`.
    public var weight: [[Double]]
    /// dL/db `[N]`; what it would be where the product has no bias.
    public var bias: [Double]
  }

  /// dL/dx = dL/dy·W, dL/dW = (dL/dy)ᵀ·x and dL/db = dL/dy for one row.
  ///
  /// - Parameters:
  ///   - x: `[D]`.
  ///   - weight: W `[N, D]`.
  ///   - outputGradient: dL/dy `[N]`.
  public static func linearBackward(
    _ x: [Double], _ weight: Matrix, outputGradient: [Double]
  ) -> LinearGradients {
    let input = x.indices.map { d in
      dot(outputGradient, outputGradient.indices.map { Double(weight[$0, d]) })
    }
    let weightGradient = outputGradient.map { dy in x.map { dy * $0 } }
    return LinearGradients(input: input, weight: weightGradient, bias: outputGradient)
  }

  /// a + b element by element.
  static func sum(_ a: [Double], _ b: [Double]) -> [Double] { zip(a, b).map { $0 + $1 } }

  /// A + B element by element.
  static func sum(_ a: [[Double]], _ b: [[Double]]) -> [[Double]] { zip(a, b).map { sum($0, $1) } }

  /// A matrix of zeros.
  static func zeros(_ rows: Int, _ columns: Int) -> [[Double]] {
    Array(repeating: Array(repeating: 0, count: columns), count: rows)
  }
}
