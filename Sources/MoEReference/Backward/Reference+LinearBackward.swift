public import MoECore

extension Reference {
  /// The gradients of y = x·Wᵀ + b, with x `[D]`, W `[N, D]`, b and y `[N]`.
  public struct LinearGradients: Sendable, Equatable {
    /// dL/dx `[D]`.
    public var input: [Double]
    /// dL/dW `[N, D]`.
    public var weight: [[Double]]
    /// dL/db `[N]`, computed even if the product has no bias.
    public var bias: [Double]
  }

  /// Returns dL/dx = dL/dy·W, dL/dW = (dL/dy)ᵀ·x and dL/db = dL/dy for one row.
  ///
  /// - Parameters:
  ///   - x: the input row `[D]`.
  ///   - weight: the weight W `[N, D]`.
  ///   - outputGradient: the gradient dL/dy `[N]`.
  public static func linearBackward(
    _ x: [Double], _ weight: Matrix, outputGradient: [Double]
  ) -> LinearGradients {
    let input = x.indices.map { d in
      dot(outputGradient, outputGradient.indices.map { Double(weight[$0, d]) })
    }
    let weightGradient = outputGradient.map { dy in x.map { dy * $0 } }
    return LinearGradients(input: input, weight: weightGradient, bias: outputGradient)
  }

  /// Returns a + b, element by element.
  static func sum(_ a: [Double], _ b: [Double]) -> [Double] { zip(a, b).map { $0 + $1 } }

  /// Returns a + b for matrices, element by element.
  static func sum(_ a: [[Double]], _ b: [[Double]]) -> [[Double]] { zip(a, b).map { sum($0, $1) } }

  /// Returns a matrix of zeros.
  static func zeros(_ rows: Int, _ columns: Int) -> [[Double]] {
    Array(repeating: Array(repeating: 0, count: columns), count: rows)
  }
}
