/// How far a right answer in floating point may lie from the exact one, as formulas.
public enum Tolerance {
  /// u of fp32: rounding to nearest moves a value by at most a factor 1 ± 2⁻²⁴.
  public static let singleRoundoff = 0x1p-24
  /// u of bfloat16: 8 significant bits, hence 2⁻⁸.
  public static let bfloat16Roundoff = 0x1p-8
  /// Half the smallest denormal of fp32: what one rounding adds where its result underflows.
  public static let singleUnderflow = 0x1p-150

  /// γₙ = n·u/(1 − n·u): the relative error that n roundings in sequence can add up to.
  ///
  /// Each rounding multiplies by some 1 + δ with |δ| ≤ u, and |Π(1 + δᵢ) − 1| ≤ γₙ for n factors
  /// (Higham, *Accuracy and Stability of Numerical Algorithms*, 2nd ed., lemma 3.1).
  public static func gamma(_ n: Int, unitRoundoff u: Double = singleRoundoff) -> Double {
    let product = Double(n) * u
    precondition(product < 1, "\(n) roundings of \(u) have no bound")
    return product / (1 - product)
  }

  /// The bound of a chain of n FMAs in fp32, s ← fma(aₖ, bₖ, s): |error| ≤ γₙ·Σ|aₖ·bₖ| + n·2⁻¹⁵⁰.
  ///
  /// The term aₖ·bₖ is rounded once in its own FMA, the product being exact inside, and once in each one
  /// after it: at most n times (Higham, §3.1). So the bound holds for any order of the terms and for any
  /// number of partial sums. The second summand is what denormal results lose.
  ///
  /// - Parameters:
  ///   - n: the number of FMAs; a bias that starts the chain is exact, one added at its end is one more.
  ///   - magnitude: Σ|aₖ·bₖ|, plus |bias|.
  public static func fmaChain(_ n: Int, magnitude: Double) -> Double {
    gamma(n) * magnitude + Double(n) * singleUnderflow
  }

  /// What rounding both operands of a dot product to bfloat16 changes: each product by at most
  /// (1 + 2⁻⁸)² − 1, so |change| ≤ (2⁻⁷ + 2⁻¹⁶)·Σ|aₖ·bₖ|.
  ///
  /// For a result that is compared with exact operands; one compared with `Reference.Precision.bfloat16` has
  /// the same operands and needs ``fmaChain(_:magnitude:)`` alone, except where an operand was itself
  /// computed in fp32 and may round the other way, by 2⁻⁷ of itself.
  public static func bfloat16Operands(magnitude: Double) -> Double {
    let u = bfloat16Roundoff
    return (2 * u + u * u) * magnitude
  }

  /// Whether `actual` and `expected` differ by at most `bound`; NaN never agrees, equal infinities do.
  public static func agree(_ actual: Double, _ expected: Double, within bound: Double) -> Bool {
    actual == expected || abs(actual - expected) <= bound
  }

  /// √(Σ(actual − expected)² / Σ expected²): one number for a whole output, which does not grow with its
  /// size or scale. 0 where both are all zero, +∞ where only `expected` is; NaN counts as infinitely wrong.
  ///
  /// n independent roundings of relative size u give about u·√n, far below the bounds above; so a bound of
  /// γₙ on it is never too strict, and what exceeds it is a wrong term and no rounding.
  ///
  /// - Precondition: both have the same number of elements.
  public static func relativeRMS(
    _ actual: some Collection<Double>, _ expected: some Collection<Double>
  ) -> Double {
    precondition(actual.count == expected.count, "\(actual.count) values against \(expected.count)")
    // Dividing by the largest first keeps squares of huge and of denormal values in range.
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
