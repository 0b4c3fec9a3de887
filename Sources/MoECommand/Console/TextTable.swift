import Foundation

/// Columns of text, aligned: the first and those of `leftAligned` to the left, the others to the right.
struct TextTable {
  private var rows: [[String]]
  private let leftAligned: Set<Int>

  init(_ header: String..., leftAligned: Set<Int> = []) {
    rows = [header]
    self.leftAligned = leftAligned.union([0])
  }

  /// Adds a row. Control characters are escaped here, so that columns are as wide as what is shown.
  mutating func add(_ cells: String...) { rows.append(cells.map { printable($0) }) }

  /// The lines, with a rule beneath the header.
  var lines: [String] {
    let widths = rows[0].indices.map { column in rows.map { $0[column].count }.max()! }
    var lines = rows.map { row in
      zip(row, widths).enumerated().map { index, cell in
        let padding = String(repeating: " ", count: cell.1 - cell.0.count)
        return leftAligned.contains(index) ? cell.0 + padding : padding + cell.0
      }.joined(separator: "  ")
    }
    lines.insert(widths.map { String(repeating: "─", count: $0) }.joined(separator: "  "), at: 1)
    return lines
  }

  /// Writes the lines to the standard output.
  func write() { for line in lines { StandardStream.output.line(line) } }
}

/// Returns a number in scientific notation with two digits, such as 3.1e-07.
func scientific(_ value: Double) -> String { String(format: "%.1e", value) }

/// Returns a number with `digits` digits behind the point.
func fixed(_ value: Double, _ digits: Int) -> String { String(format: "%.\(digits)f", value) }
