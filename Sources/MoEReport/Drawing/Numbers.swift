import Foundation

/// Returns a number with `digits` decimals, and no minus sign before a zero.
package func fixed(_ value: Double, _ digits: Int) -> String {
  let text = String(format: "%.\(digits)f", value)
  return text.hasPrefix("-") && text.allSatisfy { "-0.".contains($0) } ? String(text.dropFirst()) : text
}

/// Returns a number with about three significant digits: 0.0012, 12.3, 1234.
package func short(_ value: Double) -> String {
  let size = abs(value)
  if size == 0 { return "0" }
  if size < 0.001 || size >= 1e7 { return String(format: "%.2g", value) }
  return fixed(value, size >= 100 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : size >= 0.1 ? 3 : 4)
}

/// Returns a share as a percentage, with one decimal below 20 % and two below 1 %.
package func percent(_ share: Double) -> String {
  let value = share * 100
  let digits = value == 0 || value >= 19.95 ? 0 : value >= 0.995 ? 1 : 2
  return "\(value > 0 && value < 0.005 ? "<0.01" : fixed(value, digits))\u{202f}%"
}

/// Returns an integer with thin spaces between thousands if it has five digits or more: 12 345.
package func grouped(_ value: Int) -> String {
  let digits = String(value.magnitude)
  var text = ""
  for (index, digit) in digits.enumerated() {
    if index > 0, (digits.count - index) % 3 == 0, digits.count > 4 { text += "\u{202f}" }
    text.append(digit)
  }
  return value < 0 ? "−\(text)" : text
}

/// Returns a large count in a few characters: 950, 12.3 k, 4.56 M.
package func abbreviated(_ value: Double) -> String {
  for (unit, size) in [("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)] where abs(value) >= size * 0.9995 {
    return "\(short(value / size))\u{202f}\(unit)"
  }
  return fixed(value, 0)
}

/// Returns a number of bytes with a binary unit: 1.23 GiB.
package func formatted(bytes value: Double) -> String {
  for (unit, size) in [("TiB", 0x1p40), ("GiB", 0x1p30), ("MiB", 0x1p20), ("KiB", 0x1p10)]
  where value >= size * 0.9995 {
    return "\(short(value / size)) \(unit)"
  }
  return "\(short(value)) B"
}

/// Returns a time with a unit: 12.3 ms.
package func formatted(seconds value: Double) -> String {
  for (unit, size) in [("s", 1.0), ("ms", 1e-3)] where value >= size * 0.9995 {
    return "\(short(value / size)) \(unit)"
  }
  return "\(short(value * 1e6)) µs"
}

/// Returns the integer nearest to a value, ties away from zero. A value beyond the range of `Int` gives its end, and NaN
/// gives 0: files of a run may hold any number.
package func nearest(_ value: Double) -> Int {
  if value.isNaN { return 0 }
  return Int(exactly: value.rounded()) ?? (value < 0 ? .min : .max)
}

/// Returns a coordinate, rounded to a tenth of a unit, in as few characters as possible.
package func coordinate(_ value: Double) -> String {
  let tenths = nearest(value * 10)
  return tenths % 10 == 0 ? String(tenths / 10) : String(format: "%.1f", Double(tenths) / 10)
}
