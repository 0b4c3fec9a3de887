import Foundation
import Testing

/// `moe report` as a command: what it writes, and how it fails.
@Suite struct ReportTests {
  /// Writes the smallest run there can be.
  private func write(_ folder: URL, metrics: String? = nil) throws {
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    let run = """
      {"format":1,"preset":"dense","seed":1,"model":{},"training":{},
       "data":{"files":[],"train_bytes":1,"validation_bytes":1,"fingerprint":"0"},
       "arguments":{},"texts":[],
       "parameters":{"total":1,"active_per_token":1,"experts":0},"flops_per_token":6,
       "machine":{"cpu":"CPU","isa":"scalar","threads":1},"version":"0.1.0"}
      """
    let step = """
      {"step":1,"tokens":8,"loss":5.5,"auxiliary_loss":0,"learning_rate":0.1,"seconds":0.1,"tokens_per_second":80,\
      "gradient_norm":{"all":1,"expert":0,"other":1},"stages":{},"layers":[]}

      """
    try Data(run.utf8).write(to: folder.appending(path: "run.json"))
    try Data((metrics ?? step).utf8).write(to: folder.appending(path: "metrics.jsonl"))
  }

  @Test func writesIntoTheRunByDefault() throws {
    try withTemporaryFolder { folder in
      try write(folder)
      let before = try names(in: folder)
      let run = try moe("report", folder.path)
      expectSuccess(run)
      #expect(run.output.hasSuffix("KiB → \(folder.path)/report.html\n"), "\(run.output)")
      #expect(try names(in: folder) == (before + ["report.html"]).sorted())
      let page = try String(contentsOf: folder.appending(path: "report.html"), encoding: .utf8)
      #expect(page.hasPrefix("<!doctype html>") && page.contains(folder.lastPathComponent))
    }
  }

  @Test func severalRunsOnePage() throws {
    try withTemporaryFolder { folder in
      for name in ["one", "two"] { try write(folder.appending(path: name)) }
      let page = folder.appending(path: "page.html")
      expectSuccess(
        try moe("report", "\(folder.path)/one", "\(folder.path)/two", "--output", page.path))
      #expect(try String(contentsOf: page, encoding: .utf8).contains("beside two"))
      #expect(try names(in: folder.appending(path: "one")) == ["metrics.jsonl", "run.json"])
    }
  }

  @Test func cutLineIsNoted() throws {
    try withTemporaryFolder { folder in
      try write(folder)
      let file = folder.appending(path: "metrics.jsonl")
      try Data((String(contentsOf: file, encoding: .utf8) + "{\"step\":2,").utf8).write(to: file)
      let run = try moe("report", folder.path)
      expectSuccess(run)
      #expect(run.output.contains("The last line of metrics.jsonl was cut"))
    }
  }

  @Test func failures() throws {
    try withTemporaryFolder { folder in
      expectFailure(try moe("report", "\(folder.path)/none"), saying: ["/none: there is no such folder"])
      expectFailure(try moe("report", folder.path), saying: ["/run.json: there is no such file"])
      try write(folder, metrics: "{\"step\":1,\"loss\":NaN}\n")
      expectFailure(
        try moe("report", folder.path),
        saying: ["/metrics.jsonl line 1: “loss” is NaN, expected a finite number"])
      #expect(try names(in: folder) == ["metrics.jsonl", "run.json"])
      try write(folder)
      expectFailure(
        try moe("report", folder.path, "--output", "\(folder.path)/no/page.html"),
        saying: ["/no/page.html: cannot be created in the folder", "No such file"])
    }
  }

  @Test func usage() throws {
    expectUsageError(try moe("report"), saying: "Missing expected argument")
    let help = try moe("report", "--help")
    #expect(help.status == 0 && help.output.contains("moe report runs/switch runs/dense --output"))
  }
}
