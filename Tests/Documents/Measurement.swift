import Foundation

/// One file of `bench/results`: rows that were measured, and how a table shows them.
struct Measurement: Decodable {
  /// The place of the table on the page.
  let order: Int
  let title: String
  let machine: String
  let threads: Int
  /// The day of the measurement, YYYY-MM-DD.
  let date: String
  /// The versions of the programs that were measured beside ours; empty if there were none.
  let versions: String
  /// The command that measures, in Markdown.
  let command: String
  /// Paragraphs before and after the table.
  let text: [String]
  let notes: [String]
  let columns: [Column]
  /// The keys whose values make one row of the table; nil if each measured row is a row of the table.
  let by: [String]?
  let rows: [[String: Value]]

  /// A column of the table.
  struct Column: Decodable {
    let title: String
    /// The key of the rows that the column shows.
    let key: String
    /// Values that a row must have for the column to show it.
    let `where`: [String: Value]?
    let unit: String?
    let digits: Int?
    let scale: Double?
    /// Whether thousands are set apart.
    let grouped: Bool?
    /// False if a value equal to the one above is left out.
    let repeats: Bool?
  }

  enum Value: Decodable, Equatable {
    case number(Double)
    case string(String)

    init(from decoder: any Decoder) throws {
      let container = try decoder.singleValueContainer()
      do {
        self = .number(try container.decode(Double.self))
      } catch DecodingError.typeMismatch {
        self = .string(try container.decode(String.self))
      }
    }
  }

  /// The rows of the table, each with the measured rows that it shows.
  private var tableRows: [[[String: Value]]] {
    guard let by else { return rows.map { [$0] } }
    var groups: [[[String: Value]]] = []
    for row in rows {
      let index = groups.firstIndex { group in by.allSatisfy { group[0][$0] == row[$0] } }
      if let index { groups[index].append(row) } else { groups.append([row]) }
    }
    return groups
  }

  /// The table in Markdown.
  var table: String {
    var lines = [
      "| " + columns.map(\.title).joined(separator: " | ") + " |",
      "|" + String(repeating: "---|", count: columns.count),
    ]
    var above: [String] = []
    for measured in tableRows {
      let cells = columns.map { $0.cell(measured) }
      // A cell is left out only if all cells before it are equal to those above, too.
      var isEqualSoFar = true
      let shown = zip(columns, cells).enumerated().map { index, pair in
        isEqualSoFar = isEqualSoFar && index < above.count && above[index] == pair.1
        return isEqualSoFar && pair.0.repeats == false ? "" : pair.1
      }
      lines.append("| " + shown.joined(separator: " | ") + " |")
      above = cells
    }
    return lines.joined(separator: "\n")
  }
}

extension Measurement.Column {
  /// Returns the text of the column's cell in the row of the table that shows these measured rows.
  func cell(_ measured: [[String: Measurement.Value]]) -> String {
    let row = measured.first { row in
      row[key] != nil && (self.where ?? [:]).allSatisfy { row[$0.key] == $0.value }
    }
    guard let value = row?[key] else { return "" }
    switch value {
    case .string(let text): return text
    case .number(let number): return shown(number * (scale ?? 1)) + (unit.map { " \($0)" } ?? "")
    }
  }

  /// Without `digits`, milliseconds have two decimals below 20 and one above, and other numbers none.
  private func shown(_ number: Double) -> String {
    let decimals = digits ?? (unit == "ms" ? (number < 20 ? 2 : 1) : 0)
    let text = String(format: "%.\(decimals)f", number)
    guard grouped == true else { return text }
    let whole = text.prefix { $0 != "." }
    var spaced = ""
    for (index, digit) in whole.enumerated() {
      if index > 0 && (whole.count - index) % 3 == 0 { spaced.append(" ") }
      spaced.append(digit)
    }
    return spaced + text.dropFirst(whole.count)
  }
}
