import ExpertParallel
import Foundation
import MoECheckpoints
import MoETraining
import Testing

/// A run that was interrupted ends as one that was not.
@Suite struct ResumeTests {
  @Test(arguments: [1, 13, 27], ["f32", "bf16"])
  func aRunKilledInAStepEndsWithTheSameBits(step: Int, dtype: String) throws {
    try withTemporaryFolder { folder in
      let training = try TrainingRun(in: folder)
      expectSuccess(try training.train("whole", settings: ["dtype": dtype]))
      let arguments = training.arguments("killed", settings: ["dtype": dtype])
      _ = try training.interrupt(arguments, with: SIGKILL) {
        training.recordedSteps("killed") >= step
      }
      expectSuccess(try training.resume("killed"))
      try expectSame(training, "whole", "killed")
    }
  }

  @Test func aRunKilledInItsSavesEndsWithTheSameBits() throws {
    try withTemporaryFolder { folder in
      let training = try TrainingRun(in: folder)
      expectSuccess(try training.train("whole"))
      var kills = 0
      _ = try training.interrupt(training.arguments("killed"), with: SIGKILL) {
        training.recordedSteps("killed") > 0 && training.isSaving("killed")
      }
      while kills < 6 {
        kills += 1
        let begun = training.recordedSteps("killed")
        let status = try training.interrupt(
          ["train", "--out", training.path("killed"), "--resume"], with: SIGKILL
        ) { training.recordedSteps("killed") > begun && training.isSaving("killed") }
        if status != nil { break }
      }
      expectSuccess(try training.resume("killed"))
      try expectSame(training, "whole", "killed")
    }
  }

  @Test(arguments: [SIGINT, SIGTERM]) func aRunThatIsAskedToEndSavesAndGoesOn(signal: Int32) throws {
    try withTemporaryFolder { folder in
      let training = try TrainingRun(in: folder)
      expectSuccess(try training.train("whole"))
      let status = try training.interrupt(training.arguments("stopped"), with: signal) {
        training.recordedSteps("stopped") >= 5
      }
      #expect(status == 0)
      let steps = training.recordedSteps("stopped")
      let file = try SafetensorsFile(path: training.path("stopped/checkpoint.safetensors"))
      #expect(file.metadata["step"] == "\(steps)")
      expectSuccess(try training.resume("stopped", "--steps", "40"))
      try expectSame(training, "whole", "stopped")
    }
  }

  @Test func aRunThatIsExtendedGoesOn() throws {
    try withTemporaryFolder { folder in
      let training = try TrainingRun(in: folder)
      let constant = ["schedule": "constant"]
      expectSuccess(try training.train("whole", settings: constant))
      expectSuccess(try training.train("short", settings: constant.merging(["steps": "22"]) { $1 }))
      let again = try training.resume("short")
      expectSuccess(again)
      #expect(again.output.contains("at its last step, 22, already"))
      expectSuccess(try training.resume("short", "--steps", "40", "--threads", "1"))
      try expectSame(training, "whole", "short", metrics: false)
    }
  }

  /// One rank speaks and goes on from what three ranks would have written.
  @Test func aRunGoesOnFromTheFilesOfOtherRanks() throws {
    try withTemporaryFolder { folder in
      let training = try TrainingRun(in: folder)
      let constant = ["schedule": "constant"]
      expectSuccess(try training.train("whole", settings: constant))
      expectSuccess(try training.train("run", settings: constant.merging(["steps": "22"]) { $1 }))
      let text = try moe("generate", training.path("run"), "--bytes", "40")
      expectSuccess(text)
      let run = folder.appending(path: "run")
      let path = run.appending(path: "checkpoint.safetensors").path
      let file = try SafetensorsFile(path: path)
      try LocalCommunicator.run(ranks: 3) { communicator in
        let entries = try file.names.compactMap { name -> CheckpointEntry? in
          let expert = name.split(separator: "experts.").dropFirst().first.flatMap { Int($0.prefix(1)) }
          if let expert, expert % 3 != communicator.rank { return nil }
          let matrix = try file.matrix(named: name)
          return CheckpointEntry(
            name: name, shape: try file.tensor(name).shape, read: { matrix }, write: { _ in })
        }
        try RunFolder(run.path).checkpoints.save(
          TrainingCheckpoint(entries: entries, readsAll: true), step: 22, metadata: file.metadata,
          over: CheckpointRanks(communicator))
      }
      try FileManager.default.removeItem(atPath: path)
      #expect(try names(in: run).contains("checkpoint-22"))
      #expect(try moe("generate", training.path("run"), "--bytes", "40").output == text.output)
      expectSuccess(try training.resume("run", "--steps", "40"))
      try expectSame(training, "whole", "run")
    }
  }

  @Test func flagsThatContradictTheRunNameBothValues() throws {
    try withTemporaryFolder { folder in
      let training = try TrainingRun(in: folder)
      expectSuccess(try training.train("run", settings: ["steps": "6"]))
      expectFailure(try training.train("run"), saying: ["holds a run already", "--resume"])
      for (flag, value, stored) in [
        ("batch", "8", "4"), ("learning-rate", "0.5", "0.001"), ("preset", "glam", "switch"),
        ("seed", "2", "1"), ("capacity-factor", "2", "not set"), ("steps", "5", "6"),
      ] {
        expectFailure(
          try training.resume("run", "--\(flag)", value), saying: ["--\(flag) is \(value)", stored])
      }
      expectFailure(
        try training.resume("run", "--clip-groups"), saying: ["--clip-groups is true", "not set"])
      expectFailure(
        try training.resume("run", "--text", training.path("text.txt")),
        saying: ["--text is text=", "shout="])
      expectSuccess(try training.resume("run", "--batch", "4", "--learning-rate", "1e-3"))
      try Data("another text\n".utf8).write(to: folder.appending(path: "loud.txt"))
      expectFailure(try training.resume("run", "--steps", "9"), saying: ["the text has changed"])
    }
  }

  @Test func whatAKillCanLeaveIsRepaired() throws {
    try withTemporaryFolder { folder in
      let training = try TrainingRun(in: folder)
      expectSuccess(try training.train("whole"))
      expectSuccess(try training.train("run", settings: ["steps": "40", "save-every": "7"]))
      let run = folder.appending(path: "run")
      let (newest, previous) = (
        run.appending(path: "checkpoint.safetensors"), run.appending(path: "checkpoint-previous.safetensors")
      )
      // Half a temporary file, and a line cut in its middle.
      try Data("half".utf8).write(to: run.appending(path: "checkpoint-next.safetensors.1.2.tmp"))
      try FileManager.default.removeItem(at: newest)
      var note = try training.resume("run")
      #expect(
        note.status == 0 && note.errors.contains("checkpoint-previous.safetensors of step 35"), "\(note)")
      try expectSame(training, "whole", "run")
      #expect(try !names(in: run).contains { $0.hasSuffix(".tmp") })
      // A newest checkpoint that was cut.
      try Data(contentsOf: newest).prefix(5000).write(to: newest)
      note = try training.resume("run")
      #expect(note.status == 0 && note.errors.hasPrefix("note: "), "\(note)")
      try expectSame(training, "whole", "run")
      #expect(try SafetensorsFile(path: previous.path).metadata["step"] == "35")
      // Neither is whole: nothing is begun anew in silence.
      for file in [newest, previous] { try Data(contentsOf: file).prefix(5000).write(to: file) }
      expectFailure(try training.resume("run"), saying: ["checkpoint.safetensors"])
      for file in [newest, previous] { try FileManager.default.removeItem(at: file) }
      expectFailure(try training.resume("run"), saying: ["checkpoint.safetensors"])
    }
  }

  @Test func aCheckpointThatDoesNotFitIsNamed() throws {
    try withTemporaryFolder { folder in
      let training = try TrainingRun(in: folder)
      expectSuccess(try training.train("run", settings: ["steps": "4"]))
      expectSuccess(try training.train("other", settings: ["steps": "4", "hidden": "64"]))
      expectSuccess(try training.train("seed", settings: ["steps": "4", "seed": "9"]))
      let path = training.path("run/checkpoint.safetensors")
      let file = try SafetensorsFile(path: path)
      func rewrite(_ change: (inout [String: (shape: [Int], values: [Float])]) -> Void) throws {
        var tensors: [String: (shape: [Int], values: [Float])] = [:]
        for name in file.names { tensors[name] = (try file.tensor(name).shape, try file.floats(named: name)) }
        change(&tensors)
        // Without a hash, as by an earlier version, so that the tensors are what is complained of.
        var writer = SafetensorsWriter(
          metadata: file.metadata.filter { !["checkpoint_format", "sha256"].contains($0.key) })
        for (name, tensor) in tensors.sorted(by: { $0.key < $1.key }) {
          try writer.add(name, tensor.values, shape: tensor.shape)
        }
        try writer.write(to: path)
      }
      let name = "optimizer.m.layers.1.experts.2.up"
      try rewrite { $0[name] = nil }
      expectFailure(try training.resume("run", "--steps", "8"), saying: [path, "“\(name)” is missing"])
      let generated = try moe("generate", training.path("run"), "--bytes", "3")
      #expect(generated.status == 0)
      #expect(
        generated.errors
          == "note: \(path): an earlier version wrote it without a hash, so damage is not noticed\n")
      try rewrite { $0["more"] = ([1], [0]) }
      expectFailure(try training.resume("run", "--steps", "8"), saying: ["“more” is none of this model"])
      expectFailure(try moe("generate", training.path("run")), saying: ["“more” is none of this model"])
      try rewrite { $0["embedding"]!.shape.swapAt(0, 1) }
      expectFailure(
        try training.resume("run", "--steps", "8"),
        saying: ["“embedding” is F32 of shape [32, 256]", "[256, 32]"])
      try training.bytes("other").write(to: URL(filePath: path))
      expectFailure(try training.resume("run", "--steps", "8"), saying: ["written by another run: its model"])
      try training.bytes("seed").write(to: URL(filePath: path))
      expectFailure(
        try training.resume("run", "--steps", "8"), saying: ["written by another run: its seed is 9"])
    }
  }

  /// Expects two runs to have ended with the same bits.
  private func expectSame(
    _ training: TrainingRun, _ a: String, _ b: String, metrics: Bool = true,
    sourceLocation: SourceLocation = #_sourceLocation
  ) throws {
    for file in ["checkpoint.safetensors", "routing.json", "sample.txt"] {
      let isSame =
        try file == "checkpoint.safetensors"
        ? tensors(training.path("\(a)/\(file)")) == tensors(training.path("\(b)/\(file)"))
        : training.bytes(a, file) == training.bytes(b, file)
      #expect(isSame, "\(file)", sourceLocation: sourceLocation)
    }
    if !metrics { return }
    func losses(_ run: String) throws -> [Double?] { try training.metrics(run).map { $0["loss"] as? Double } }
    #expect(try losses(a) == losses(b), sourceLocation: sourceLocation)
    #expect(try losses(a).count == 40, sourceLocation: sourceLocation)
  }

  /// The bytes of a checkpoint but for what its metadata says of intervals.
  private func tensors(_ path: String) throws -> [String: [UInt8]] {
    let file = try SafetensorsFile(path: path)
    var tensors: [String: [UInt8]] = [:]
    for name in file.names { tensors[name] = try file.bytes(named: name) }
    return tensors
  }
}
