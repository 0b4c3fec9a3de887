/// Columns of text, aligned: the first to the left, the others to the right.
struct TextTable {
  private var rows: [[String]]

  init(_ header: String...) { rows = [header] }

  mutating func add(_ cells: String...) { rows.append(cells) }

  /// The lines, with a rule beneath the header.
  var lines: [String] {
    let widths = rows[0].indices.map { column in rows.map { $0[column].count }.max()! }
    var lines = rows.map { row in
      zip(row, widths).enumerated().map { index, cell in
        let padding = String(repeating: " ", count: cell.1 - cell.0.count)
        return index == 0 ? cell.0 + padding : padding + cell.0
      }.joined(separator: "  ")
    }
    lines.insert(widths.map { String(repeating: "─", count: $0) }.joined(separator: "  "), at: 1)
    return lines
  }

  func print() { for line in lines { Swift.print(line) } }
}

/// A number in scientific notation with two digits, such as 3.1e-07.
func scientific(_ value: Double) -> String {
  guard value.isFinite else { return "\(value)" }
  guard value != 0 else { return "0" }
  var exponent = 0
  var mantissa = abs(value)
  while mantissa >= 9.95 {
    mantissa /= 10
    exponent += 1
  }
  while mantissa < 0.995 {
    mantissa *= 10
    exponent -= 1
  }
  return "\(value < 0 ? "-" : "")\(fixed(mantissa, 1))e\(exponent)"
}

/// A number with so many digits behind the point.
func fixed(_ value: Double, _ digits: Int) -> String {
  var scale = 1.0
  for _ in 0..<digits { scale *= 10 }
  let rounded = Int64((abs(value) * scale).rounded())
  let whole = "\(rounded / Int64(scale))"
  let sign = value < 0 && rounded != 0 ? "-" : ""
  guard digits > 0 else { return sign + whole }
  let fraction = "\(rounded % Int64(scale))"
  return "\(sign)\(whole).\(String(repeating: "0", count: digits - fraction.count))\(fraction)"
}
