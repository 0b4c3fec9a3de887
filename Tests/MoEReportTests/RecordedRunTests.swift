import Foundation
import MoEReport
import MoERun
import Testing

/// Files that are read, and files that are refused with their sentences.
@Suite struct RunFolderTests {
  /// Writes a small run, changes it, and reads it.
  private func read(_ change: (URL) throws -> Void = { _ in }) throws
    -> RecordedRun
  {
    try withTemporaryFolder { folder in
      try SyntheticRun.small.write(to: folder)
      try change(folder)
      return try RecordedRun(path: folder.path)
    }
  }

  /// Expects the folder to be refused with a sentence that ends so.
  private func expectRefusal(
    _ file: String, _ ending: String, line: Int? = nil, sourceLocation: SourceLocation = #_sourceLocation,
    _ change: (URL) throws -> Void
  ) throws {
    do {
      _ = try read(change)
      Issue.record("the folder was read", sourceLocation: sourceLocation)
    } catch let error as RunError {
      #expect(error.path.hasSuffix("/\(file)"), "\(error)", sourceLocation: sourceLocation)
      #expect(error.line == line, "\(error)", sourceLocation: sourceLocation)
      #expect(error.complaint == ending, sourceLocation: sourceLocation)
    }
  }

  private func edit(_ file: URL, _ change: (inout String) -> Void) throws {
    var text = String(decoding: try Data(contentsOf: file), as: UTF8.self)
    let before = text
    change(&text)
    #expect(text != before, "the edit changes something")
    try Data(text.utf8).write(to: file)
  }

  @Test func wholeRun() throws {
    let run = try read()
    #expect(run.steps.map(\.step) == Array(1...6) && run.notes.isEmpty)
    #expect(run.steps[0].layers.map(\.load.count) == [8, 8])
    #expect(run.steps.compactMap(\.validationLoss).count == 1 && run.steps[5].validationLoss != nil)
    #expect(run.routing?.labels == ["de", "en", "es", "it", "pl", "pt", "ru"])
    #expect(run.sample?.hasPrefix("Die Stadt") == true)
    #expect(run.settings.contains { $0 == ("training.adam.beta2", "0.99") })
    #expect(run.settings.contains { $0 == ("model.expert_layers", "1, 3") })
    #expect(run.settings.contains { $0 == ("data.files[6].label", "ru") })
  }

  @Test func partsMayBeAbsent() throws {
    let run = try read {
      for name in ["routing.json", "sample.txt"] {
        try FileManager.default.removeItem(at: $0.appending(path: name))
      }
    }
    #expect(run.routing == nil && run.sample == nil)
    #expect(Report([run]).html.contains("</html>"))
  }

  @Test(arguments: ["run.json", "metrics.jsonl"]) func missing(_ name: String) throws {
    try expectRefusal(name, "there is no such file") {
      try FileManager.default.removeItem(at: $0.appending(path: name))
    }
  }

  @Test func noFolder() throws {
    #expect(throws: RunError("/nowhere/run", "there is no such folder")) {
      try RecordedRun(path: "/nowhere/run")
    }
  }

  @Test func cutLastLineIsLeftOut() throws {
    let run = try read { try edit($0.appending(path: "metrics.jsonl")) { $0.removeLast(40) } }
    #expect(run.steps.count == 5)
    #expect(run.notes == ["The last line of metrics.jsonl was cut while it was written, and is left out."])
    #expect(Report([run]).html.contains("was cut while it was written"))
  }

  @Test func wholeLastLineNeedsNoLineFeed() throws {
    let run = try read { try edit($0.appending(path: "metrics.jsonl")) { $0.removeLast() } }
    #expect(run.steps.count == 6 && run.notes.isEmpty)
  }

  @Test func brokenLineWithin() throws {
    try expectRefusal("metrics.jsonl", "this is not JSON", line: 3) {
      try edit($0.appending(path: "metrics.jsonl")) { text in
        var lines = text.components(separatedBy: "\n")
        lines[2] = String(lines[2].dropLast(9))
        text = lines.joined(separator: "\n")
      }
    }
  }

  @Test func noStepYet() throws {
    try expectRefusal("metrics.jsonl", "there is no step in it yet") {
      try Data("{\"step\":1".utf8).write(to: $0.appending(path: "metrics.jsonl"))
    }
  }

  @Test(arguments: [
    ("\"loss\":[0-9.]+", "\"loss\":NaN", "“loss” is NaN, expected a finite number"),
    ("\"loss\":[0-9.]+", "\"loss\":-1", "“loss” is -1.0, expected a finite number of 0 or more"),
    ("\"loss\":[0-9.]+", "\"loss\":\"low\"", "“loss” is not a number"),
    ("\"loss\":[0-9.]+,", "", "“loss” is missing"),
    ("\"dropped\":[0-9]+", "\"dropped\":5000", "layer 1: “dropped” is 5000, of 4096 choices"),
    ("\"load\":\\[[0-9]+,", "\"load\":[", "layer 1 has 7 loads, but 8 the step before"),
    ("\"load\":\\[[0-9]+", "\"load\":[-3", "layer 1: “load” has -3, expected 0 or more"),
    ("\"load\":\\[[0-9,]+", "\"load\":[", "layer 1: “load” is empty, expected a count for each expert"),
    ("\"layer\":1", "\"layer\":2", "the MoE layers are [2, 3], but [1, 3] the step before"),
    ("\"step\":2", "\"step\":2.5", "a count in it has a fraction or is too large"),
    ("\"step\":2", "\"step\":1", "“step” is 1 after step 1"),
    ("\"step\":2", "\"step\":9223372036854775807", "“step” is 9223372036854775807, expected 1 to 2^40"),
    ("\"loss\":[0-9.]+", "\"loss\":1e308", "“loss” is 1e+308, expected at most 1000000000000000.0"),
    ("^\\{", "{\"format\":2,", "“format” is 2, expected 1: another version of the program wrote it"),
  ])
  func badLine(_ pattern: String, _ replacement: String, _ complaint: String) throws {
    try expectRefusal("metrics.jsonl", complaint, line: 2) {
      try edit($0.appending(path: "metrics.jsonl")) { text in
        var lines = text.components(separatedBy: "\n")
        let range = lines[1].range(of: pattern, options: .regularExpression)!
        lines[1].replaceSubrange(range, with: replacement)
        text = lines.joined(separator: "\n")
      }
    }
  }

  @Test(arguments: [
    (
      "\"experts\":\\[8,8\\]", "\"experts\":[8]", "“experts” has 1 numbers, expected one for each of 2 layers"
    ),
    (
      "\"by_label\":\\[\\[\\[[0-9]+,", "\"by_label\":[[[",
      "“by_label[0][0]” has 6 counts, expected one for each of 7 labels"
    ),
    (
      "\"by_class\":\\[\\[\\[[0-9]+", "\"by_class\":[[[-1",
      "“by_class[0][0]” has -1, expected 0 to 1099511627776"
    ),
    (
      "\"by_class\":\\[\\[\\[[0-9]+", "\"by_class\":[[[9223372036854775807",
      "“by_class[0][0]” has 9223372036854775807, expected 0 to 1099511627776"
    ),
    (
      "^\\{", "{\"format\":2,", "“format” is 2, expected 1: another version of the program wrote it"
    ),
    ("\"bytes\":\\[[0-9]+,", "\"bytes\":[", "“samples[0]” has 60 experts for 59 bytes in layer 0"),
    ("\"bytes\":\\[[0-9]+", "\"bytes\":[256", "“samples[0]” has the byte 256, expected 0 to 255"),
    ("\"experts\":\\[\\[-?[0-9]+", "\"experts\":[[8", "“samples[0]” has expert 8, expected −1 to 7"),
  ])
  func badRouting(_ pattern: String, _ replacement: String, _ complaint: String) throws {
    try withTemporaryFolder { folder in
      try SyntheticRun.small.write(to: folder)
      try edit(folder.appending(path: "routing.json")) { text in
        text.replaceSubrange(text.range(of: pattern, options: .regularExpression)!, with: replacement)
      }
      let error = #expect(throws: RunError.self) { try RecordedRun(path: folder.path) }
      #expect(error?.complaint.hasPrefix(complaint) == true, "\(String(describing: error))")
    }
  }

  @Test func otherFormat() throws {
    try expectRefusal("run.json", "“format” is 2, expected 1: another version of the program wrote it") {
      try edit($0.appending(path: "run.json")) { $0 = $0.replacing("\"format\":1", with: "\"format\":2") }
    }
  }
}

extension SyntheticRun {
  /// Six steps.
  static var small: SyntheticRun { SyntheticRun(steps: 6, sampleBytes: 60) }
}
