/// Reads amounts with units, as options of the command line give them. Each function returns nil if the text is no
/// amount.
package enum Quantity {
  /// Seconds: `50us`, `2ms`, `1.5s`, `200ns`.
  package static func seconds(_ text: String) -> Double? {
    amount(text, [("ns", 1e-9), ("us", 1e-6), ("µs", 1e-6), ("ms", 1e-3), ("s", 1)])
  }

  /// Bytes: `24GiB`, `512MB`, `4096`.
  package static func bytes(_ text: String) -> Double? { amount(text, byteUnits + [("B", 1), ("", 1)]) }

  /// Bytes per second: `1gbit`, `200mbit`, `10GB/s`.
  package static func bandwidth(_ text: String) -> Double? {
    let bits = [("kbit", 1e3 / 8), ("mbit", 1e6 / 8), ("gbit", 1e9 / 8), ("tbit", 1e12 / 8)]
    return amount(text.lowercased(), bits)
      ?? amount(text, byteUnits.map { ("\($0.0)/s", $0.1) } + [("B/s", 1)])
  }

  /// Floating-point operations per second, where a multiply-add counts as two: `250G`, `1.2T`.
  package static func operations(_ text: String) -> Double? {
    amount(text, [("M", 1e6), ("G", 1e9), ("T", 1e12), ("P", 1e15), ("", 1)])
  }

  private static let byteUnits = [
    ("KiB", 0x1p10), ("MiB", 0x1p20), ("GiB", 0x1p30), ("TiB", 0x1p40), ("kB", 1e3), ("MB", 1e6), ("GB", 1e9),
    ("TB", 1e12),
  ]

  /// Reads a plain decimal number followed by one of the units.
  private static func amount(_ text: String, _ units: [(String, Double)]) -> Double? {
    let digits = text.prefix { "0123456789.".contains($0) }
    guard let unit = units.first(where: { $0.0 == text.dropFirst(digits.count) }), digits.count <= 18,
      let number = Double(digits)
    else { return nil }
    // 10⁻⁶ is no double, but 10⁶ is: 50us is computed as 50/10⁶, which is rounded once.
    return unit.1 < 1 ? number / (1 / unit.1).rounded() : number * unit.1
  }
}
