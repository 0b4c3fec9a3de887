import Foundation
import MoECheckpoints
import Testing

/// `moe train` over ranks leaves what it leaves on one.
@Suite struct TrainRanksTests {
  @Test(arguments: [
    ("switch", ["--ranks", "2"]), ("deepseek", ["--ranks", "3"]),
    ("glam", ["--ranks", "5", "--threads", "2"]),
    ("deepspeed-pr", ["--ranks", "4", "--expert-parallel", "2", "--overlap", "2"]),
    ("mixtral", ["--ranks", "4", "--expert-parallel", "1"]),
  ])
  func anyNumberOfRanksLeavesTheSameRun(preset: String, options: [String]) throws {
    try withTemporaryFolder { folder in
      let training = try TrainingRun(in: folder)
      let settings = ["preset": preset, "steps": "12", "micro-batches": preset == "glam" ? "2" : "1"]
      expectSuccess(try training.train("one", settings: settings))
      let run = try moe(training.arguments("spread", options, settings: settings))
      expectSuccess(run)
      #expect(run.output.contains("\(options[1]) ranks"))
      try expectSame(training, "one", "spread")
      #expect(
        try names(in: folder.appending(path: "spread")) == [
          "checkpoint-12", "checkpoint-8", "metrics.jsonl", "routing.json", "run.json", "sample.txt",
        ])
      for line in try training.metrics("spread") {
        let stages = try #require(line["stages"] as? [String: Double])
        let seconds = try #require(line["seconds"] as? Double)
        #expect(try #require(stages["communication"]) >= 0)
        #expect(stages.values.reduce(0, +) <= seconds)
      }
      #expect(try training.metrics("one").allSatisfy { !"\($0)".contains("communication") })
      #expect(try training.bytes("one", "run.json").count > 500)
    }
  }

  /// Experts that move from rank to rank, alone or with copies, change no bit.
  @Test(arguments: [
    ("switch", ["--ranks", "3", "--rebalance-every", "2"], "adamw"),
    ("deepseek", ["--ranks", "2", "--rebalance-every", "3", "--expert-copies", "2"], "adafactor"),
    ("glam", ["--ranks", "3", "--rebalance-every", "1", "--expert-copies", "5"], "sgd"),
    ("mixtral", ["--ranks", "5", "--rebalance-every", "4", "--expert-copies", "3"], "adamw"),
  ])
  func expertsThatMoveLeaveTheSameRun(preset: String, options: [String], optimizer: String) throws {
    try withTemporaryFolder { folder in
      let training = try TrainingRun(in: folder)
      let settings = ["preset": preset, "steps": "13", "optimizer": optimizer, "layers": "3"]
      expectSuccess(try training.train("one", settings: settings))
      let run = try moe(training.arguments("spread", options, settings: settings))
      expectSuccess(run)
      let (lines, moves) = (
        run.output.matches(
          of: /layer \d: rows per rank: \d+ at most \(contiguous \d+\), bound \d+, gap [\d.]+ %/),
        run.output.matches(of: /[\d ]+ bytes moved between ranks/)
      )
      #expect(lines.count >= 3 && moves.count >= 1, "\(run.output)")
      try expectSame(training, "one", "spread")
    }
  }

  /// A run that was killed after experts had moved goes on where they lie in order.
  @Test func aRunWhoseExpertsMovedGoesOnOnOtherRanks() throws {
    try withTemporaryFolder { folder in
      let training = try TrainingRun(in: folder)
      expectSuccess(try training.train("whole"))
      let options = ["--ranks", "3", "--rebalance-every", "2", "--expert-copies", "2"]
      _ = try training.interrupt(training.arguments("killed", options), with: SIGKILL) {
        training.recordedSteps("killed") >= 11
      }
      expectSuccess(try training.resume("killed", "--ranks", "2", "--rebalance-every", "5"))
      try expectSame(training, "whole", "killed")
    }
  }

  @Test(arguments: [3, 17]) func aRunKilledOnSomeRanksGoesOnOnOthers(step: Int) throws {
    try withTemporaryFolder { folder in
      let training = try TrainingRun(in: folder)
      expectSuccess(try training.train("whole"))
      let arguments = training.arguments("killed", ["--ranks", "3"])
      _ = try training.interrupt(arguments, with: SIGKILL) { training.recordedSteps("killed") >= step }
      _ = try training.interrupt(
        ["train", "--out", training.path("killed"), "--resume", "--ranks", "2"], with: SIGKILL
      ) { training.recordedSteps("killed") >= step + 9 }
      expectSuccess(try training.resume("killed", "--ranks", "4", "--expert-parallel", "2"))
      try expectSame(training, "whole", "killed")
    }
  }

  @Test(arguments: [SIGINT, SIGTERM]) func ranksThatAreAskedToEndSaveTheSameStep(signal: Int32) throws {
    try withTemporaryFolder { folder in
      let training = try TrainingRun(in: folder)
      expectSuccess(try training.train("whole"))
      let arguments = training.arguments("stopped", ["--ranks", "3"])
      let status = try training.interrupt(arguments, with: signal) { training.recordedSteps("stopped") >= 5 }
      #expect(status == 0)
      let step = training.recordedSteps("stopped")
      let newest = training.path("stopped/checkpoint-\(step)/manifest.json")
      #expect(step == 40 || FileManager.default.fileExists(atPath: newest))
      expectSuccess(try training.resume("stopped"))
      try expectSame(training, "whole", "stopped")
    }
  }

  /// Errors that all ranks have are said once, as one rank says them.
  @Test func whatAllRanksMissIsSaidOnce() throws {
    try withTemporaryFolder { folder in
      let training = try TrainingRun(in: folder)
      let wild = ["learning-rate": "1e30", "clip": "0"]
      let one = try training.train("one", settings: wild)
      let spread = try training.train("spread", "--ranks", "3", settings: wild)
      #expect(one.status == 1 && one.errors.contains("training diverged at step"))
      #expect(spread.status == 1 && spread.errors == one.errors)
      expectFailure(try training.train("one", "--ranks", "2"), saying: ["holds a run already"])
      expectFailure(
        try training.train("long", "--ranks", "2", settings: ["context": "60000"]),
        saying: ["text: the text has", "expected at least 60001"])
      expectSuccess(try training.train("run", settings: ["steps": "4"]))
      let path = training.path("run/checkpoint.safetensors")
      try training.bytes("run").prefix(5000).write(to: URL(filePath: path))
      try FileManager.default.removeItem(atPath: training.path("run/checkpoint-previous.safetensors"))
      expectFailure(
        try training.resume("run", "--steps", "8", "--ranks", "3"), saying: ["checkpoint.safetensors"])
      expectSuccess(try training.train("other", "--ranks", "2", settings: ["steps": "4", "seed": "9"]))
      try FileManager.default.removeItem(atPath: path)
      try FileManager.default.copyItem(
        atPath: training.path("other/checkpoint-4"), toPath: training.path("run/checkpoint-4"))
      expectFailure(
        try training.resume("run", "--steps", "8", "--ranks", "3"),
        saying: ["written by another run: its seed is 9"])
    }
  }

  @Test func ranksThatCannotBeAreUsageErrors() throws {
    try withTemporaryFolder { folder in
      let training = try TrainingRun(in: folder)
      for (options, complaint) in [
        (["--ranks", "0"], "--ranks is 0"), (["--ranks", "2000"], "--ranks is 2000"),
        (["--ranks", "4", "--expert-parallel", "3"], "--expert-parallel is 3, which does not divide 4"),
        (["--expert-parallel", "2"], "does not divide 1 ranks"), (["--timeout", "0"], "--timeout is 0"),
        (["--ranks", "2", "--mpi"], "--ranks is for ranks of one process"),
        (["--ranks", "2", "--rebalance-every", "0"], "--rebalance-every is 0"),
        (["--rebalance-every", "5"], "--rebalance-every is for several ranks"),
        (
          ["--ranks", "4", "--expert-parallel", "2", "--rebalance-every", "5"],
          "--expert-parallel 2 over some"
        ),
        (["--ranks", "2", "--expert-copies", "1"], "--expert-copies needs --rebalance-every"),
        (["--ranks", "2", "--rebalance-every", "1", "--expert-copies", "-1"], "expert-copies"),
        (["--overlap", "0"], "'0' is invalid for '--overlap"),
        (["--gradient-sum", "sloppy"], "'sloppy' is invalid for '--gradient-sum"),
      ] {
        expectUsageError(try moe(training.arguments("run", options)), saying: complaint)
      }
      #if !MPI
        expectFailure(
          try training.train("run", "--mpi"),
          saying: ["built without MPI", "swift build -c release --traits MPI"])
      #endif
      #expect(!FileManager.default.fileExists(atPath: training.path("run")))
    }
  }

  /// Sums that are rounded otherwise lead elsewhere, but not far from the start.
  @Test func reducedSumsTrainToo() throws {
    try withTemporaryFolder { folder in
      let training = try TrainingRun(in: folder)
      expectSuccess(try training.train("exact"))
      for name in ["a", "b"] {
        expectSuccess(try training.train(name, "--ranks", "3", "--gradient-sum", "reduced"))
      }
      try expectSame(training, "a", "b")
      func losses(_ run: String) throws -> [Double] {
        try training.metrics(run).map { $0["loss"] as! Double }
      }
      let (exact, reduced) = (try losses("exact"), try losses("a"))
      #expect(exact != reduced && exact[0] == reduced[0])
      #expect(zip(exact, reduced).allSatisfy { abs($0 - $1) < 0.1 })
    }
  }

  /// How gradients are added is kept with the run, and what is given replaces it.
  @Test func aResumedRunAddsGradientsAsItBegan() throws {
    try withTemporaryFolder { folder in
      let training = try TrainingRun(in: folder)
      for name in ["kept", "given", "exact"] {
        expectSuccess(
          try training.train(name, "--ranks", "3", "--gradient-sum", "reduced", settings: ["steps": "8"]))
      }
      expectSuccess(try training.resume("kept", "--steps", "24", "--ranks", "3"))
      for (name, sum) in [("given", "reduced"), ("exact", "exact")] {
        expectSuccess(
          try training.resume(name, "--steps", "24", "--ranks", "3", "--gradient-sum", sum))
        let description = String(decoding: try training.bytes(name, "run.json"), as: UTF8.self)
        #expect(description.contains("\"gradient_sum\" : \"\(sum)\""), "\(description)")
      }
      try expectSame(training, "kept", "given")
      func losses(_ run: String) throws -> [Double] {
        try training.metrics(run).map { $0["loss"] as! Double }
      }
      #expect(try losses("exact") != losses("kept"))
      let file = folder.appending(path: "kept/run.json")
      let text = try String(contentsOf: file, encoding: .utf8)
      try text.replacing("\"reduced\"", with: "\"sloppy\"").write(to: file, atomically: true, encoding: .utf8)
      expectFailure(
        try training.resume("kept", "--ranks", "3"),
        saying: ["gradient_sum “sloppy”, expected exact or reduced"])
    }
  }

  /// Expects two runs to have left the same, but for times and the order of a checkpoint's tensors.
  private func expectSame(
    _ training: TrainingRun, _ a: String, _ b: String, sourceLocation: SourceLocation = #_sourceLocation
  ) throws {
    for file in ["routing.json", "sample.txt"] {
      let isSame = try training.bytes(a, file) == training.bytes(b, file)
      #expect(isSame, "\(file)", sourceLocation: sourceLocation)
    }
    func metrics(_ run: String) throws -> [NSDictionary] {
      try training.metrics(run).map { line in
        NSDictionary(
          dictionary: line.filter { !["seconds", "tokens_per_second", "stages"].contains($0.key) })
      }
    }
    let isSame = try metrics(a) == metrics(b)
    #expect(isSame, "metrics.jsonl", sourceLocation: sourceLocation)
    /// The tensors of the last step's checkpoint, in one file or several.
    func tensors(_ run: String) throws -> [String: [UInt8]] {
      let step = training.recordedSteps(run)
      let shards = "\(run)/checkpoint-\(step)"
      let isWhole = !FileManager.default.fileExists(atPath: training.path(shards))
      let files =
        try isWhole
        ? ["\(run)/checkpoint.safetensors"]
        : names(in: training.folder.appending(path: shards)).filter { $0.hasPrefix("rank-") }.map {
          "\(shards)/\($0)"
        }
      var tensors: [String: [UInt8]] = [:]
      for name in files {
        let file = try SafetensorsFile(path: training.path(name))
        if isWhole { #expect(file.metadata["step"] == "\(step)", sourceLocation: sourceLocation) }
        for name in file.names { tensors[name] = try file.bytes(named: name) }
      }
      return tensors
    }
    let (left, right) = (try tensors(a), try tensors(b))
    #expect(left.keys.sorted() == right.keys.sorted(), sourceLocation: sourceLocation)
    let differing = left.filter { right[$0.key] != $0.value }.keys.sorted()
    #expect(differing.isEmpty, sourceLocation: sourceLocation)
  }
}
