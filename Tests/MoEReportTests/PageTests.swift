import Foundation
import MoEReport
import Testing

/// The page as text.
@Suite struct PageTests {
  private func page(_ runs: [SyntheticRun]) throws -> String {
    try withTemporaryFolder { folder in
      try Report(
        runs.enumerated().map { index, run in
          let path = folder.appending(path: "run-\(index)")
          try run.write(to: path)
          return try RecordedRun(path: path.path)
        }
      ).html
    }
  }

  @Test func sameFilesSamePage() throws {
    #expect(try page([.small]) == page([.small]))
  }

  @Test func nothingFromElsewhere() throws {
    let html = try page([SyntheticRun(), SyntheticRun(preset: "dense", experts: [], seed: 2), hostileRun])
    #expect(!html.contains("http:") && !html.contains("https:") && !html.contains("@import"))
    #expect(!html.contains("url(") && !html.contains(" src=\"") && !html.contains("href="))
    #expect(!html.lowercased().contains("<script") && !html.contains("<img"))
    #expect(html.contains("default-src 'none'"))
  }

  @Test func longRunsStaySmall() throws {
    for experts in [[32, 32, 32, 32], [512, 512]] {
      let html = try page([SyntheticRun(steps: 2000, experts: experts)])
      #expect(html.utf8.count < 1 << 20, "\(experts): \(html.utf8.count)")
    }
    let html = try page([SyntheticRun(steps: 601)])
    #expect(html.contains("Long series are drawn with fewer points"))
  }

  @Test func numbersOfTheRun() throws {
    let html = try page([SyntheticRun()])
    #expect(
      html.contains("It has 2 Mixture-of-Experts layers with 8 experts each; a byte goes to 1 of them."))
    #expect(html.contains("trained for 400 steps of 4096 bytes"))
    #expect(html.contains("7 files (de, en, es, it, pl, pt and ru)"))
  }

  @Test func pyramidNamesItsExperts() throws {
    #expect(
      try page([SyntheticRun(steps: 6, experts: [8, 16, 32])]).contains("layers with 8, 16 and 32 experts;"))
  }

  @Test func allDroppedIsSaid() throws {
    let html = try page([SyntheticRun(steps: 6, experts: [8], allDropped: true)])
    #expect(html.contains("100\u{202f}% of the choices were dropped"))
    #expect(html.contains("No byte of the held-out text reached an expert."))
  }

  @Test func bytesOfACharacterShareItsExpert() throws {
    try withTemporaryFolder { folder in
      try SyntheticRun(steps: 6, experts: [8], generated: nil).write(to: folder)
      let routing: [String: Any] = [
        "step": 6, "layers": [1], "experts": [8], "labels": ["x"], "classes": ["letter"],
        "by_label": [Array(repeating: [1], count: 8)], "by_class": [Array(repeating: [1], count: 8)],
        "samples": [
          [
            "label": "x", "bytes": Array("aä<b".utf8).map(Int.init), "experts": [[2, 5, 3, -1, -1]],
            "loss": [0, 1, 2, 9, 9],
          ] as [String: Any]
        ],
      ]
      try Data(json(routing).utf8).write(to: folder.appending(path: "routing.json"))
      let html = Report([try RecordedRun(path: folder.path)]).html
      #expect(
        html.contains(
          "<i class=\"e2\" title=\"2\">a</i><i class=\"e5\" title=\"5\">ä</i><i class=\"dropped\" title=\"dropped\">"
            + "&lt;b</i>"))
      // Its loss is the sum over its bytes: 3 of 5.5 nats are step 5 of 9.
      #expect(
        html.contains("<i class=\"q0\" title=\"0.0 nats\">a</i><i class=\"q5\" title=\"3.1 nats\">ä</i>"))
    }
  }

  @Test func runsOfOneNameAreNumbered() throws {
    try withTemporaryFolder { folder in
      let runs = try ["a/run", "b/run", "c"].map { name in
        try SyntheticRun.small.write(to: folder.appending(path: name))
        return try RecordedRun(path: folder.appending(path: name).path)
      }
      #expect(runNames(runs) == ["run (1)", "run (2)", "c"])
      let html = Report(runs).html
      #expect(html.contains("beside run (2) and c"))
    }
  }
}
