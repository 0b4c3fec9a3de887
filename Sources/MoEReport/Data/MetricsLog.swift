package import Foundation
package import MoERun

/// The lines of `metrics.jsonl`, read and checked.
package struct MetricsLog {
  /// One record per line.
  package var steps: [StepRecord] = []
  /// Sentences about lines that were left out.
  package var notes: [String] = []

  /// Reads every line. A last line that has no line feed and does not parse was cut while it was written: it is left out
  /// with a note.
  ///
  /// - Throws: `RunError` naming the line and the value, or where there is no whole line yet.
  package init(_ contents: Data, path: String) throws(RunError) {
    let lines = contents.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
    for (index, line) in lines.enumerated() where !line.allSatisfy({ $0 == 0x20 || $0 == 0x0d || $0 == 0x09 })
    {
      let record: StepRecord
      do {
        record = try RunJSON.decode(StepRecord.self, from: line, path: path, line: index + 1)
      } catch {
        if index < lines.count - 1 { throw error }
        notes.append("The last line of metrics.jsonl was cut while it was written, and is left out.")
        break
      }
      if let complaint = record.complaint(after: steps.last) {
        throw RunError(path, line: index + 1, complaint)
      }
      steps.append(record)
    }
    if steps.isEmpty { throw RunError(path, "there is no step in it yet") }
  }
}
