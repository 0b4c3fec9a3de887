import Foundation
import MoECheckpoints
import Testing

@Suite struct TrainTests {
  @Test func aRunLearnsAndLeavesWhatItPromises() throws {
    try withTemporaryFolder { folder in
      let training = try TrainingRun(in: folder)
      let run = try training.train("run", settings: ["learning-rate": "0.01"])
      expectSuccess(run)
      #expect(run.output.contains("done      step 40, validation loss"))
      #expect(
        try names(in: folder.appending(path: "run")) == [
          "checkpoint-previous.safetensors", "checkpoint.safetensors", "metrics.jsonl", "routing.json",
          "run.json",
          "sample.txt",
        ])
      let metrics = try training.metrics("run")
      #expect(metrics.map { $0["step"] as? Int } == (1...40).map { $0 })
      #expect(metrics.last?["tokens"] as? Int == 40 * 4 * 32)
      let losses = metrics.compactMap { $0["loss"] as? Double }
      #expect(losses.count == 40 && losses[39] < losses[0] - 1.5)
      let validations = metrics.filter { $0["validation_loss"] != nil }.map { $0["step"] as? Int }
      #expect(validations == [10, 20, 30, 40])
      for line in metrics {
        let layers = try #require(line["layers"] as? [[String: Any]])
        #expect(layers.count == 1 && layers[0]["layer"] as? Int == 1)
        #expect((layers[0]["load"] as? [Int])?.reduce(0, +) == 4 * 32)
        let stages = try #require(line["stages"] as? [String: Double])
        #expect(
          Set(stages.keys).isSuperset(of: ["attention", "feed_forward", "moe", "head", "optimizer", "data"]))
        let norm = try #require(line["gradient_norm"] as? [String: Double])
        #expect(abs(hypot(norm["expert"]!, norm["other"]!) - norm["all"]!) < 1e-9 * norm["all"]!)
      }
    }
  }

  @Test func everyHeldOutByteIsCountedOnceWhereItWent() throws {
    struct Routing: Decodable {
      struct Sample: Decodable {
        var label: String
        var bytes: [UInt8]
        var experts: [[Int]]
        var loss: [Double]
      }
      var step: Int
      var layers: [Int]
      var experts: [Int]
      var labels: [String]
      var classes: [String]
      var byLabel: [[[Int]]]
      var byClass: [[[Int]]]
      var samples: [Sample]
    }
    try withTemporaryFolder { folder in
      let training = try TrainingRun(in: folder)
      expectSuccess(try training.train("run", settings: ["preset": "mixtral", "steps": "5"]))
      let decoder = JSONDecoder()
      decoder.keyDecodingStrategy = .convertFromSnakeCase
      let routing = try decoder.decode(Routing.self, from: training.bytes("run", "routing.json"))
      #expect(routing.step == 5 && routing.layers == [0, 1] && routing.experts == [4, 4])
      #expect(routing.labels == ["text", "shout"])
      #expect(routing.classes == ["letter", "upper", "digit", "space", "punctuation", "non-ascii"])
      for layer in 0..<2 {
        let labels = (0..<2).map { label in routing.byLabel[layer].reduce(0) { $0 + $1[label] } }
        #expect(labels == [16 * 32, 16 * 32])
        let classes = (0..<6).map { kind in routing.byClass[layer].reduce(0) { $0 + $1[kind] } }
        #expect(classes.reduce(0, +) == 2 * 16 * 32)
        #expect(classes[1] > 16 * 16 && classes[0] > 16 * 16 && classes[4] == 0 && classes[5] > 0)
      }
      #expect(routing.samples.map(\.label) == ["text", "shout"])
      for sample in routing.samples {
        #expect(sample.bytes.count == 31 && sample.loss.count == 31)
        #expect(sample.experts.count == 2 && sample.experts.allSatisfy { $0.count == 31 })
        #expect(sample.experts.joined().allSatisfy { (0..<4).contains($0) })
        #expect(sample.loss.allSatisfy { $0 > 0 && $0 < 50 })
      }
    }
  }

  @Test(
    arguments: ["dense", "switch", "glam", "deepspeed-pr", "mixtral", "deepseek"],
    ["adamw", "adafactor", "sgd"])
  func everyPresetTrainsWithEveryOptimizerToTheSameBits(preset: String, optimizer: String) throws {
    try withTemporaryFolder { folder in
      let training = try TrainingRun(in: folder)
      let settings = ["preset": preset, "optimizer": optimizer, "steps": "12"]
      expectSuccess(try training.train("a", "--threads", "1", settings: settings))
      expectSuccess(try training.train("b", "--threads", "3", settings: settings))
      let isSame = try training.bytes("a") == training.bytes("b")
      #expect(isSame)
    }
  }

  @Test func whatSavesMemoryDoesNotChangeABit() throws {
    try withTemporaryFolder { folder in
      let training = try TrainingRun(in: folder)
      let settings = ["preset": "mixtral", "steps": "8"]
      func parameters(_ run: String, _ more: String..., settings: [String: String]) throws -> [[UInt8]] {
        expectSuccess(try moe(training.arguments(run, more, settings: settings)))
        let file = try SafetensorsFile(path: training.path("\(run)/checkpoint.safetensors"))
        return try file.names.map { try file.bytes(named: $0) }
      }
      let plain = try parameters("plain", settings: settings)
      let recomputed = try parameters("recomputed", "--recompute", settings: settings) == plain
      #expect(recomputed)
      let split = try parameters("split", settings: settings.merging(["micro-batches": "4"]) { $1 }) == plain
      #expect(split)
    }
  }

  @Test func settingsThatCannotBeHonouredAreUsageErrors() throws {
    try withTemporaryFolder { folder in
      let training = try TrainingRun(in: folder)
      for (settings, complaint) in [
        (["steps": "0"], "the number of steps is 0"), (["batch": "0"], "the batch size is 0"),
        (["hidden": "33"], "the hidden size is 33"), (["ffn": "100"], "--ffn is 100"),
        (["heads": "5"], "5 heads do not divide"), (["micro-batches": "3"], "3 micro-batches do not divide"),
        (["learning-rate": "0"], "the learning rate is 0"), (["layers": "0"], "--layers is 0"),
        (["preset": "mixtral", "capacity-factor": "1"], "mixtral drops nothing"),
        (["preset": "dense", "balance-coefficient": "1"], "has no experts"),
        (["experts": "1"], "routes between 1 experts"), (["weight-decay": "nan"], "weight decay is nan"),
      ] {
        expectUsageError(try training.train("run", settings: settings), saying: complaint)
      }
      expectUsageError(try moe("train", "--out", training.path("run")), saying: "--text is missing")
      #expect(!FileManager.default.fileExists(atPath: training.path("run")))
    }
  }

  @Test func textsAndFoldersThatCannotBeUsedAreNamed() throws {
    try withTemporaryFolder { folder in
      let training = try TrainingRun(in: folder)
      expectFailure(
        try moe("train", "--text", training.path("none"), "--out", training.path("run")),
        saying: [training.path("none"), "no such file"])
      expectFailure(
        try training.train("run", settings: ["context": "60000"]),
        saying: ["text: the text has", "expected at least 60001"])
      try FileManager.default.createDirectory(
        atPath: training.path("full/x"), withIntermediateDirectories: true)
      expectFailure(try training.train("full"), saying: [training.path("full"), "is not empty"])
      expectFailure(try training.resume("text.txt"), saying: ["there is no run.json"])
      try Data("{}".utf8).write(to: folder.appending(path: "full/run.json"))
      expectFailure(try training.resume("full"), saying: ["run.json", "is missing"])
    }
  }

  @Test func divergenceStopsAndTheLastGoodCheckpointStays() throws {
    try withTemporaryFolder { folder in
      let training = try TrainingRun(in: folder)
      // One step at such a rate, unclipped, leaves weights whose products overflow.
      let settings = [
        "learning-rate": "1e36", "optimizer": "sgd", "clip": "0", "warmup": "0", "save-every": "1",
      ]
      let run = try training.train("run", settings: settings)
      #expect(run.status == 1)
      #expect(run.errors.hasPrefix("Error: training diverged at step "), "\(run.errors)")
      #expect(run.errors.contains("the last good checkpoint is that of step"), "\(run.errors)")
      let file = try SafetensorsFile(path: training.path("run/checkpoint.safetensors"))
      for name in file.names { #expect(try file.floats(named: name).allSatisfy(\.isFinite), "\(name)") }
      for line in try training.metrics("run") { #expect((line["loss"] as? Double)?.isFinite == true) }
    }
  }
}
