import Foundation
import MoEReport
import MoERun
import Testing

/// Steps to a loss by hand, and synthetic runs beside a baseline.
@Suite struct ComparisonTests {
  private func series(_ values: [Double]) -> Series {
    Series(values.enumerated().map { .init(step: Double(25 * ($0 + 1)), value: $1) })
  }

  @Test(arguments: [(3.0, 25.0), (2.75, 37.5), (2.5, 50), (2.1, 70), (2.05, 72.5), (2.0, 75), (1.75, 112.5)])
  func interpolatesTheStep(_ loss: Double, _ step: Double) {
    // Rises from 2 to 2.1 and comes down again: the first time counts.
    let found = series([3, 2.5, 2, 2.1, 1.4]).step(reaching: loss)
    #expect(found.map { abs($0 - step) < 1e-9 } == true, "\(String(describing: found))")
  }

  @Test func reachesAtOnceOrNever() {
    #expect(series([3, 2]).step(reaching: 4) == 25)
    #expect(series([3, 2]).step(reaching: 1.9) == nil)
    #expect(series([]).step(reaching: 1) == nil)
  }

  @Test func centredMeansHaveNoLag() {
    let means = series([5, 4, 3, 2, 0]).centredMeans(radius: 1)
    #expect(means.points.map(\.step) == [50, 75, 100])
    #expect(zip(means.points, [4, 3, 5.0 / 3]).allSatisfy { abs($0.value - $1) < 1e-12 })
    #expect(series([5, 4]).centredMeans(radius: 1) == series([5, 4]))
    #expect(series([5, 4, 3]).centredMeans(radius: 0) == series([5, 4, 3]))
  }

  @Test func spreads() {
    #expect(Spread([1, 3, 2])?.text(1) == "2.0 (1.0–3.0)")
    #expect(Spread([0.25])?.text(2) == "0.25")
    #expect(Spread([]) == nil)
  }

  /// Writes runs as (name, seed, floor of the loss, experts of each layer), all with the same FLOPs, and compares them.
  private func compare(
    _ runs: [(name: String, seed: UInt64, floor: Double, experts: [Int])],
    change: (URL) throws -> Void = { _ in }
  ) throws -> RunComparison {
    try withTemporaryFolder { folder in
      for run in runs {
        let place = folder.appending(path: run.name)
        try SyntheticRun(experts: run.experts, floor: run.floor, seed: run.seed).write(to: place)
        try edit(place.appending(path: "run.json"), #/"flops_per_token":\d+/#, "\"flops_per_token\":1000")
      }
      try change(folder)
      return try RunComparison(folder: folder.path, leavingOut: "ru")
    }
  }

  private func edit(_ file: URL, _ pattern: Regex<Substring>, _ text: String) throws {
    let before = String(decoding: try Data(contentsOf: file), as: UTF8.self)
    let after = before.replacing(pattern, with: text)
    #expect(after != before, "the edit changes something")
    try Data(after.utf8).write(to: file)
  }

  @Test func groupsBySeedAndCompares() throws {
    let found = try compare([
      ("dense-1", 1, 1.5, []), ("dense-2", 2, 1.5, []), ("wide-1", 1, 1.2, [16, 16]),
      ("wide-3", 3, 1.2, [16, 16]),
      ("small-1", 1, 1.3, [8, 8]), ("small-2", 2, 1.3, [8, 8]),
    ])
    #expect(found.baseline.runs.map(\.name) == ["dense-1", "dense-2"])
    #expect(found.others.map(\.name) == ["small", "wide"], "smallest first")
    #expect(found.notes == ["wide-3 is not compared, because dense has no finished run with its seed."])
    let run = found.others[0].runs[1]
    let arrival = try #require(found.arrival(run))
    // The run's own validations around the step enclose the loss of the dense run of seed 2.
    let goal = found.baseline.runs[1].finalLoss
    let after = try #require(run.validation.points.first { $0.step >= arrival.step })
    #expect(after.value <= goal && after.step - arrival.step < 40 && arrival.ratio == 400 / arrival.step)
    #expect(arrival.ratio > 1)
    let early = try #require(found.arrival(run, after: 0.51))
    let half = try #require(found.baseline.runs[1].validation.points.first { $0.step == 200 })
    #expect(early.step == run.validation.step(reaching: half.value) && early.ratio == 200 / early.step)
    #expect(found.arrival(found.others[1].runs[1]) == nil, "seed 3 has no baseline")
    for text in ["| small | 2 |", "| wide | 3 | 16 |", "bits without ru", "| dense | 2 | 1.3"] {
      #expect(found.tables.contains(text), "\(text)")
    }
  }

  @Test func seedsThatDoNotArriveAreCounted() throws {
    let found = try compare([
      ("dense-1", 1, 1.3, []), ("dense-2", 2, 1.3, []), ("mixed-1", 1, 1.2, [4]), ("mixed-2", 2, 1.6, [4]),
    ])
    #expect(found.arrival(found.others[0].runs[1]) == nil)
    #expect(found.tables.contains(" in 1 of 2 |"))
  }

  @Test func loadIsThatOfTheLastTenth() throws {
    let found = try compare([("dense-1", 1, 1.5, []), ("switch-1", 1, 1.2, [4])]) { folder in
      let file = folder.appending(path: "switch-1/metrics.jsonl")
      var lines = String(decoding: try Data(contentsOf: file), as: UTF8.self).split(separator: "\n")
      // Half of these steps give all to one expert, √3, and half to another; a quarter is kept. Before, whatever it was.
      for index in 360..<400 {
        let load = index % 2 == 0 ? "4096,0,0,0" : "0,4096,0,0"
        lines[index] = Substring(
          lines[index].replacing(#/"load":\[[^\]]*\]/#, with: "\"load\":[\(load)]")
            .replacing(#/"dropped":\d+/#, with: "\"dropped\":3072"))
      }
      try Data((lines.joined(separator: "\n") + "\n").utf8).write(to: file)
    }
    let layer = found.others[0].runs[0].layers[0]
    #expect(abs(layer.variation - 3.0.squareRoot()) < 1e-12 && layer.dropRate == 0.75)
    #expect(layer.variationOfSum == 1, "two of four experts have half each")
  }

  @Test func aLabelIsLeftOut() throws {
    let found = try compare([("dense-1", 1, 1.5, []), ("switch-1", 1, 1.2, [2])]) { folder in
      // Expert 0 has all of the last label, ru, and nothing else tells the experts apart.
      let counts = "[[[20,20,20,20,20,20,120],[20,20,20,20,20,20,0]]]"
      let file = folder.appending(path: "switch-1/routing.json")
      try edit(file, #/"by_label":\[\[\[.*?\]\]\]/#, "\"by_label\":\(counts)")
    }
    let layer = found.others[0].runs[0].layers[0]
    let (all, others) = (try #require(layer.ofLabel), try #require(layer.ofOtherLabels))
    #expect(all.information > 0.2 && abs(others.information) < 1e-12)
    var withBytes = found
    withBytes.compare(bytes: [[1, 0, 2], [0, 1, 0]], labels: ["de", "en", "ru"])
    #expect(withBytes.ofByte?.others?.information == 1, "bytes tell de from en")
    #expect(withBytes.tables.contains("| the byte itself | – | 0.811 |"))
    #expect(!found.tables.contains("the byte itself"))
  }

  @Test func unfinishedRunsAreLeftOut() throws {
    let found = try compare([("dense-1", 1, 1.5, []), ("switch-1", 1, 1.2, [4])]) { folder in
      try edit(folder.appending(path: "switch-1/run.json"), #/"steps":400/#, "\"steps\":500")
    }
    #expect(found.notes == ["switch-1 is left out, because it is not finished."] && found.others.isEmpty)
    #expect(found.figure.contains("dense ends at"))
  }

  @Test func refusesWhatIsNotComparable() throws {
    let runs: [(name: String, seed: UInt64, floor: Double, experts: [Int])] = [
      ("dense-1", 1, 1.5, []), ("switch-1", 1, 1.2, [4]),
    ]
    #expect {
      try compare(runs) { folder in
        let file = folder.appending(path: "switch-1/run.json")
        try edit(file, #/"flops_per_token":1000/#, "\"flops_per_token\":1001")
      }
    } throws: { error in
      (error as? RunError)?.complaint
        == "“flops_per_token” is 1001, but 1000 in dense-1; compared runs must agree in it"
    }
    #expect { try compare([runs[1]]) } throws: {
      ($0 as? RunError)?.complaint
        == "it has no finished run named dense-SEED, expected one to compare the others with"
    }
    #expect(throws: RunError.self) { try RunComparison(folder: "/nonexistent") }
  }

  @Test func figureIsWholeAndClipped() throws {
    let found = try compare([("dense-1", 1, 1.5, []), ("a<b-1", 1, 1.2, [4])])
    #expect(
      found.figure.hasPrefix("<svg") && found.figure.contains("a&lt;b") && !found.figure.contains("a<b"))
    #expect(XMLProbe.isWellFormed(found.figure))
    #expect(found.figure.components(separatedBy: "class=\"dot").count == 2, "one arrival")
  }
}

/// Whether a text is XML: every element closed, in order.
private enum XMLProbe {
  static func isWellFormed(_ text: String) -> Bool {
    var open: [Substring] = []
    for tag in text.matches(of: #/<(/?)([a-zA-Z]+)[^<>]*?(/?)>/#) {
      if !tag.3.isEmpty { continue }
      if tag.1.isEmpty { open.append(tag.2) } else if open.popLast() != tag.2 { return false }
    }
    return open.isEmpty && text.count(where: { $0 == "<" }) == text.count(where: { $0 == ">" })
  }
}
