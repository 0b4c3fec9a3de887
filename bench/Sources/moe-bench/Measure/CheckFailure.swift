/// An error for a kernel whose result differs from its definition. Such a kernel is not timed.
struct CheckFailure: Error, CustomStringConvertible {
  let description: String
}

/// Throws unless `error` is at most `tolerance`. NaN always throws.
func require(_ error: Double, atMost tolerance: Double, _ what: @autoclosure () -> String) throws {
  guard error <= tolerance else {
    throw CheckFailure(description: "\(what()) has error \(error), expected at most \(tolerance)")
  }
}

/// Returns √(Σ(actual − expected)² / Σ expected²).
func relativeRMS(_ actual: [Double], _ expected: [Double]) -> Double {
  let difference = zip(actual, expected).reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) }
  return (difference / expected.reduce(0) { $0 + $1 * $1 }).squareRoot()
}

/// Returns the largest relative error of `count` successive roundings: γ of Higham, §3.1.
func roundings(_ count: Int) -> Double { Double(count) * 0x1p-24 }
