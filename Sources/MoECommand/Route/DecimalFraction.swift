/// A positive decimal number as the fraction it is written as, so that a capacity is rounded once.
struct DecimalFraction {
  let numerator: Int
  let denominator: Int

  var value: Double { Double(numerator) / Double(denominator) }

  /// Reads digits with at most one point, up to nine digits on either side.
  init?(_ text: String) {
    let parts = text.split(separator: ".", omittingEmptySubsequences: false)
    let digits = parts.joined()
    guard (1...2).contains(parts.count), parts.allSatisfy({ $0.count <= 9 }), !digits.isEmpty,
      digits.allSatisfy({ ("0"..."9").contains($0) }), let numerator = Int(digits), numerator > 0
    else { return nil }
    self.numerator = numerator
    var denominator = 1
    for _ in 0..<(parts.count == 2 ? parts[1].count : 0) { denominator *= 10 }
    self.denominator = denominator
  }
}
