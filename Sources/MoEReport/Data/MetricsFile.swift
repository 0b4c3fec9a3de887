package import Foundation

/// The lines of `metrics.jsonl`.
package struct MetricsFile {
  package var steps: [StepRecord] = []
  /// What had to be left out.
  package var notes: [String] = []

  /// Reads every line; a last one without a line feed that does not parse was cut while it was written, and is
  /// left out with a note.
  package init(_ contents: Data, path: String) throws(RunError) {
    let lines = contents.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
    for (index, line) in lines.enumerated() where !line.allSatisfy({ $0 == 0x20 || $0 == 0x0d || $0 == 0x09 })
    {
      let record: StepRecord
      do {
        record = try decode(StepRecord.self, from: line, path: path, line: index + 1)
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
