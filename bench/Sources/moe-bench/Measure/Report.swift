import Foundation

/// One contender's figures in one case.
struct Row: Encodable {
  let bench: String
  let problem: String
  let contender: String
  let medianMilliseconds: Double
  let minimumMilliseconds: Double
  let rounds: Int
  let gigaflopsPerSecond: Double
  let gigabytesPerSecond: Double
  /// The limit that binds, and the share of it that the median reaches.
  let limit: Bound
  let shareOfLimit: Double
  /// The speed relative to the scalar kernel; nil if the scalar kernel was not timed.
  let ratioToScalar: Double?
  let error: Double

  init(
    bench: String, problem: String, contender: Contender, timings: Timings, scalarMedian: Double?, work: Work,
    limits: Limits
  ) {
    self.bench = bench
    self.problem = problem
    self.contender = contender.name
    let median = timings.median
    medianMilliseconds = median * 1e3
    minimumMilliseconds = timings.minimum * 1e3
    rounds = timings.rounds.count
    gigaflopsPerSecond = work.flops / median * 1e-9
    gigabytesPerSecond = work.bytes / median * 1e-9
    let bound = work.bound(
      flopsPerSecond: limits.flopsPerSecond(contender.arithmetic), readPerSecond: limits.read,
      updatePerSecond: limits.update)
    limit = bound.by
    shareOfLimit = bound.seconds / median
    ratioToScalar = scalarMedian.map { $0 / median }
    error = contender.error
  }

  /// The row of the table under ``header``.
  var line: String {
    [
      bench.padded(12), problem.padded(26), contender.padded(16), fixed(medianMilliseconds, 3, width: 10),
      fixed(minimumMilliseconds, 3, width: 10), fixed(gigaflopsPerSecond, 1, width: 8),
      fixed(gigabytesPerSecond, 1, width: 7),
      fixed(100 * shareOfLimit, 0, width: 5) + "% " + limit.rawValue.padded(6),
      ratioToScalar.map { fixed($0, 1, width: 6) + "×" } ?? "      –", scientific(error, width: 9),
    ].joined(separator: " ")
  }

  /// The headings of the columns of ``line``.
  static let header = [
    "bench".padded(12), "problem".padded(26), "contender".padded(16), " median ms", "    min ms", " GFLOP/s",
    "   GB/s", " of limit    ", " scalar", "    error",
  ].joined(separator: " ")
}

/// Returns `value` with `digits` decimals, right-aligned in `width` columns.
func fixed(_ value: Double, _ digits: Int, width: Int = 0) -> String {
  String(format: "%\(width).\(digits)f", value)
}

/// Returns `value` with three significant digits and an exponent.
func scientific(_ value: Double, width: Int = 0) -> String { String(format: "%\(width).2e", value) }

extension String {
  /// Returns the string followed by blanks up to `width` columns.
  func padded(_ width: Int) -> String { self + String(repeating: " ", count: max(0, width - count)) }
}

/// Writes a line at once, also into a pipe.
func printLine(_ line: String) {
  print(line)
  fflush(nil)
}

/// Writes a line to the standard error.
func printError(_ line: String) { FileHandle.standardError.write(Data((line + "\n").utf8)) }

/// Writes `value` as one JSON object.
func printJSON(_ value: some Encodable) throws {
  let encoder = JSONEncoder()
  encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
  encoder.nonConformingFloatEncodingStrategy = .convertToString(
    positiveInfinity: "inf", negativeInfinity: "-inf", nan: "nan")
  printLine(String(decoding: try encoder.encode(value), as: UTF8.self))
}
