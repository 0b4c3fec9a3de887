import TestSupport

/// A check of derivatives by difference quotients, which counts the derivatives that it cannot check.
///
/// f′(0) ≈ (8·(f(h) − f(−h)) − (f(2h) − f(−2h)))/12h, whose error is h⁴·f⁽⁵⁾/30 (Abramowitz and Stegun 25.3.6).
/// With h = 2⁻¹² the error is far below 10⁻⁶ if f is smooth. If f has a kink or a jump within 4h (relu at 0, a clamp,
/// the floor of a normalising sum, a threshold), the coordinate is skipped. Two differences detect a kink:
/// - the same rule with 2h in place of h gives another value, unless the kink is at 0 itself;
/// - with e(h) = f(h) + f(−h) − 2·f(0), the kink at 0 (right slope minus left slope) is (4·e(h) − e(2h))/2h, which is
///   0 to third order if f is smooth.
struct DifferenceJudge {
  /// The step h: a power of two, so that steps on a grid of 2⁻¹² are exact in fp32 up to 2¹².
  static let step = 0x1p-12
  /// The number of derivatives compared, without the skipped ones.
  private(set) var compared = 0
  /// The number of derivatives skipped because of a kink.
  private(set) var skipped = 0

  /// Throws unless `gradient` equals f′(0) with a relative error of at most 10⁻⁶.
  ///
  /// The absolute part of the bound allows for rounding errors: f is a sum of terms whose absolute values add up to
  /// `magnitude`, each term is rounded about 32 times, and the coefficients of the rule add up to 1.5/h.
  mutating func compare(
    _ gradient: Double, magnitude: Double, _ name: @autoclosure () -> String, of f: (Double) throws -> Double
  ) throws {
    let (h, middle) = (Self.step, try f(0))
    func both(_ t: Double) throws -> (odd: Double, even: Double) {
      let (right, left) = try (f(t), f(-t))
      return (right - left, right + left - 2 * middle)
    }
    let (one, two, four) = try (both(h), both(2 * h), both(4 * h))
    let fine = (8 * one.odd - two.odd) / (12 * h)
    let coarse = (8 * two.odd - four.odd) / (24 * h)
    let kink = (4 * one.even - two.even) / (2 * h)
    let bound = 1e-6 * max(abs(fine), abs(gradient)) + 1.5 / h * 32 * 0x1p-53 * magnitude
    if max(abs(fine - coarse), abs(kink)) > bound {
      skipped += 1
      return
    }
    compared += 1
    try ensure(
      abs(gradient - fine) <= bound, "\(name()): gradient \(gradient), difference quotient \(fine)")
  }

  /// Throws if more than one derivative was skipped per `share` compared ones: skipped derivatives prove nothing.
  func ensureFewSkipped(oneIn share: Int = 20) throws {
    try ensure(skipped * share <= compared, "\(skipped) skipped, only \(compared) compared")
  }
}
