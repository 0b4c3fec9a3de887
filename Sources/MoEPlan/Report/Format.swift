import Foundation

/// Amounts for people.
package enum Format {
  /// `1.23 GiB`.
  package static func bytes(_ value: Double) -> String {
    for (unit, size) in [("TiB", 0x1p40), ("GiB", 0x1p30), ("MiB", 0x1p20), ("KiB", 0x1p10)]
    where value >= size * 0.9995 {
      return "\(digits(value / size)) \(unit)"
    }
    return "\(digits(value)) B"
  }

  /// `12.3 ms`.
  package static func seconds(_ value: Double) -> String {
    for (unit, size) in [("s", 1.0), ("ms", 1e-3)] where value >= size * 0.9995 {
      return "\(digits(value / size)) \(unit)"
    }
    return "\(digits(value * 1e6)) µs"
  }

  /// `12.3 %`.
  package static func percent(_ share: Double) -> String { "\(digits(share * 100)) %" }

  /// Three significant digits or so.
  package static func digits(_ value: Double) -> String {
    let size = abs(value)
    return String(format: size >= 99.95 || size < 0.005 ? "%.0f" : size >= 9.995 ? "%.1f" : "%.2f", value)
  }
}
