/// Formulas for the largest difference between a correct result in floating point and the exact result.
public enum Tolerance {
  /// u of fp32: rounding to nearest changes a value by at most a factor 1 ± 2⁻²⁴.
  public static let singleRoundoff = 0x1p-24
  /// u of bfloat16: 8 significant bits, hence 2⁻⁸.
  public static let bfloat16Roundoff = 0x1p-8
  /// Half the smallest denormal of fp32: the largest absolute error of one rounding whose result underflows.
  public static let singleUnderflow = 0x1p-150

  /// Returns γₙ = n·u/(1 − n·u), the largest relative error of n roundings in sequence.
  ///
  /// Each rounding multiplies by a factor 1 + δ with |δ| ≤ u, and |Π(1 + δᵢ) − 1| ≤ γₙ for n factors
  /// (Higham, *Accuracy and Stability of Numerical Algorithms*, 2nd ed., lemma 3.1).
  public static func gamma(_ n: Int, unitRoundoff u: Double = singleRoundoff) -> Double {
    let product = Double(n) * u
    precondition(product < 1, "\(n) roundings of \(u) have no bound")
    return product / (1 - product)
  }

  /// Returns the bound of a chain of n FMAs in fp32, s ← fma(aₖ, bₖ, s): |error| ≤ γₙ·Σ|aₖ·bₖ| + n·2⁻¹⁵⁰.
  ///
  /// The term aₖ·bₖ is rounded once in its own FMA, inside which the product is exact, and once in each FMA after it:
  /// at most n times (Higham, §3.1). So the bound holds for any order of the terms and for any number of partial sums.
  /// The second summand bounds the error of denormal results.
  ///
  /// - Parameters:
  ///   - n: the number of FMAs. A bias that starts the chain adds no rounding; a bias added at its end counts as one
  ///     more FMA.
  ///   - magnitude: the sum Σ|aₖ·bₖ|, plus |bias|.
  public static func fmaChain(_ n: Int, magnitude: Double) -> Double {
    gamma(n) * magnitude + Double(n) * singleUnderflow
  }

  /// Returns the bound of the change of a dot product when both operands are rounded to bfloat16. Each product changes
  /// by at most the factor (1 + 2⁻⁸)² − 1, so |change| ≤ (2⁻⁷ + 2⁻¹⁶)·Σ|aₖ·bₖ|.
  ///
  /// Tests use it if the expected result has unrounded operands. A result expected by `Reference.Precision.bfloat16`
  /// has the same rounded operands and needs only ``fmaChain(_:magnitude:)``. The exception is an operand that was
  /// itself computed in fp32: it may round to the other neighbour, a difference of 2⁻⁷ of itself.
  public static func bfloat16Operands(magnitude: Double) -> Double {
    let u = bfloat16Roundoff
    return (2 * u + u * u) * magnitude
  }

  /// Returns whether `actual` and `expected` differ by at most `bound`. NaN never agrees; equal infinities agree.
  public static func agree(_ actual: Double, _ expected: Double, within bound: Double) -> Bool {
    actual == expected || abs(actual - expected) <= bound
  }

  /// Returns √(Σ(actual − expected)² / Σ expected²): one number for a whole output, which does not grow with the
  /// output's size or scale. It is 0 if both are all zeros, and +∞ if only `expected` is all zeros or if a difference
  /// is NaN.
  ///
  /// n independent roundings of relative size u give about u·√n, far below the bounds above. So a bound of γₙ is never
  /// too strict, and a result above it has a wrong term, not only rounding errors.
  ///
  /// - Precondition: both have the same number of elements.
  public static func relativeRMS(
    _ actual: some Collection<Double>, _ expected: some Collection<Double>
  ) -> Double {
    precondition(actual.count == expected.count, "\(actual.count) values against \(expected.count)")
    // The division by the largest value keeps the squares of huge and of denormal values in range.
    let largest = expected.reduce(0) { max($0, abs($1)) }
    let difference = zip(actual, expected).map { abs($0 - $1) }
    if difference.contains(where: \.isNaN) { return .infinity }
    if difference.allSatisfy({ $0 == 0 }) { return 0 }
    if largest == 0 { return .infinity }
    func sumOfSquares(_ values: some Collection<Double>) -> Double {
      values.reduce(0) { $0 + ($1 / largest) * ($1 / largest) }
    }
    return (sumOfSquares(difference) / sumOfSquares(expected)).squareRoot()
  }
}
