import Foundation

/// The lines of `metrics.jsonl`.
struct MetricsFile {
  var steps: [StepRecord] = []
  /// What had to be left out.
  var notes: [String] = []

  /// Reads every line; a last one without a line feed that does not parse was cut while it was written, and is
  /// left out with a note.
  init(_ contents: Data, path: String) throws(RunError) {
    let decoder = JSONDecoder()
    let lines = contents.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
    for (index, line) in lines.enumerated() where !line.allSatisfy({ $0 == 0x20 || $0 == 0x0d || $0 == 0x09 })
    {
      let record: StepRecord
      do {
        record = try decoder.decode(StepRecord.self, from: line)
      } catch {
        if index == lines.count - 1 {
          notes.append("The last line of metrics.jsonl was cut while it was written, and is left out.")
          break
        }
        let complaint = Self.notANumber(line) ?? (error as? DecodingError)?.complaint ?? "this is not JSON"
        throw RunError(path, line: index + 1, complaint)
      }
      if let complaint = record.complaint(after: steps.last) {
        throw RunError(path, line: index + 1, complaint)
      }
      steps.append(record)
    }
    if steps.isEmpty { throw RunError(path, "there is no step in it yet") }
  }

  /// The complaint about a bare NaN or Infinity, which JSON does not know, if the line has one.
  private static func notANumber(_ line: Data) -> String? {
    let text = String(decoding: line, as: UTF8.self)
    let pattern = /"([^"\\]*)"\s*:\s*\[?(?:[^"{}\[\]]*,)?\s*(-?(?:[Nn]a[Nn]|[Ii]nf(?:inity)?))\b/
    return text.firstMatch(of: pattern).map { "“\($0.1)” is \($0.2), expected a finite number" }
  }
}
