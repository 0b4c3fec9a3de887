import ExpertParallel
import Foundation
import MoE
import MoECheckpoints
import MoETraining
import Testing

@Suite struct ShardedCheckpointTests {
  @Test(arguments: [1, 2, 3, 4, 8, 11]) func anyRanksReadWhatAnyRanksWrote(writers: Int) throws {
    try withTemporaryRun { run in
      try run.save(step: 7, ranks: writers)
      #expect(run.names == [writers == 1 ? "checkpoint.safetensors" : "checkpoint-7"])
      for readers in [1, 2, 3, 4, 8, 11] {
        let found = try run.restore(ranks: readers)
        #expect(found?.step == 7 && found?.note == nil, "\(readers) readers")
      }
    }
  }

  @Test func shardsAreFilesOfTheirOwnAndTheManifestListsThem() throws {
    try withTemporaryRun { run in
      try run.save(step: 7, ranks: 4)
      let folder = "\(run.path)/checkpoint-7"
      let path = "\(folder)/manifest.json"
      let manifest = try CheckpointManifest(parsing: contents(ofFile: path, atMost: .max), path: path)
      #expect(
        RunFolder(folder).names == ["manifest.json"] + (0..<4).map { "rank-0000\($0)-of-00004.safetensors" })
      #expect(manifest.step == 7 && manifest.metadata["model"] == "small \"one\"")
      for (index, digest) in manifest.files.enumerated() {
        let file = try SafetensorsFile(path: "\(folder)/\(manifest.fileName(index))")
        #expect(file.digest() == digest)
        // Rank r of four has the experts 2r and 2r + 1, and of what all have its part.
        for expert in 0..<8 {
          let name = "optimizer.m.layers.0.experts.\(expert).up"
          #expect((file.tensors[name] != nil) == (expert / 2 == index))
        }
        for (name, tensor) in file.tensors {
          #expect(manifest.tensors[name] == .init(shape: tensor.shape, file: index))
        }
      }
      #expect(manifest.tensors.count == HeldMatrices.shared.count + 8 * 6)
      #expect(try CheckpointManifest(parsing: Array(manifest.json.utf8), path: path) == manifest)
    }
  }

  /// Ranks divide the tensors that all of them hold. One of the ranks with a copy of an expert writes it.
  @Test(arguments: 0..<40 as Range<UInt64>) func noRankWritesMuchMoreThanAnother(seed: UInt64) throws {
    var generator = SeededGenerator(seed: seed)
    let ranks = Int(generator.next() % 9) + 1
    let sizes = (0..<30).map { _ in Int(generator.next() % 100) + 1 }
    let placement = ExpertPlacement(expertCount: Int(generator.next() % 12) + 1, rankCount: ranks)
    let held = placement.experts.map { experts in
      sizes.enumerated().map { MatrixName(name: "shared.\($0)", shape: [$1, 3]) }
        + experts.map { MatrixName(name: "expert.\($0)", shape: [50, 2]) }
    }
    let plan = try ShardPlan(held: held)
    let (again, reversed) = (try ShardPlan(held: held), try ShardPlan(held: held.map { $0.reversed() }))
    #expect(again == plan && reversed == plan)
    #expect(plan.writers.count == 30 + placement.expertCount && plan.shapes.count == plan.writers.count)
    var bytes = [Int](repeating: 0, count: ranks)
    for (name, writer) in plan.writers {
      #expect(held[writer].contains { $0.name == name })
      bytes[writer] += plan.shapes[name]!.reduce(4, *)
    }
    let own = placement.experts.map { experts in
      experts.count { placement.replicas[$0].count == 1 } * 400
    }
    let largest = sizes.max()! * 12
    let floor = max(own.max()!, bytes.reduce(0, +) / ranks)
    #expect(bytes.max()! <= floor + max(largest, 400))
  }

  @Test func twoShapesOfOneTensorAreRefused() {
    #expect(
      throws: CheckpointError(
        "checkpoint", "tensor “a” has shape [2, 3] on rank 1, expected [3, 2] as on rank 0")
    ) {
      try ShardPlan(held: [[MatrixName(name: "a", shape: [3, 2])], [MatrixName(name: "a", shape: [2, 3])]])
    }
  }

  @Test(arguments: ["embedding", "optimizer.v.layers.0.experts.5.down"], [Float.nan, -.infinity])
  func nothingIsWrittenWhereAValueIsNotFinite(name: String, value: Float) throws {
    try withTemporaryRun { run in
      try run.save(step: 3, ranks: 4)
      let errors = try LocalCommunicator.run(ranks: 4) { communicator -> TrainingError? in
        let held = HeldMatrices(rank: communicator.rank, of: RunFolder.placement(4), seed: 4)
        // All ranks hold the tensor, and it is broken on one of them.
        if name != "embedding" || communicator.rank == 2 { held[name]?[1, 1] = value }
        do {
          try run.checkpoints.save(
            held.checkpoint, step: 4, metadata: [:], over: CheckpointRanks(communicator))
        } catch let error as TrainingError {
          return error
        }
        return nil
      }
      #expect(errors == .init(repeating: TrainingError.notFinite(what: "a value of \(name)"), count: 4))
      #expect(run.names == ["checkpoint-3"])
      #expect(try run.restore(ranks: 2)?.step == 3)
    }
  }

  @Test func aRankThatCannotWriteIsToldOfOnAll() throws {
    try withTemporaryRun { run in
      try run.save(step: 3, ranks: 3)
      let errors = try LocalCommunicator.run(ranks: 3) { communicator in
        let held = HeldMatrices(rank: communicator.rank, of: RunFolder.placement(3), seed: 4)
        var entries = held.checkpoint.entries
        if communicator.rank == 1 { entries.append(entries.first { $0.name.contains("experts.4") }!) }
        do {
          try run.checkpoints.save(
            TrainingCheckpoint(entries: entries, readsAll: true), step: 4, metadata: [:],
            over: CheckpointRanks(communicator))
        } catch let error as CheckpointError {
          return error.complaint
        }
        return ""
      }
      #expect(Set(errors).count == 1 && errors[0].contains("already taken"), "\(errors)")
      #expect(try run.restore(ranks: 3)?.step == 3)
    }
  }

  @Test func theNewestAndTheOneBeforeAreKept() throws {
    try withTemporaryRun { run in
      for (step, ranks, expected) in [
        (0, 4, ["checkpoint-0"]),
        (5, 2, ["checkpoint-0", "checkpoint-5"]),
        (10, 4, ["checkpoint-10", "checkpoint-5"]),
        (15, 1, ["checkpoint-10", "checkpoint.safetensors"]),
        (20, 1, ["checkpoint-previous.safetensors", "checkpoint.safetensors"]),
        (25, 3, ["checkpoint-25", "checkpoint.safetensors"]),
        (30, 2, ["checkpoint-25", "checkpoint-30"]),
        (35, 1, ["checkpoint-30", "checkpoint.safetensors"]),
      ] {
        try run.save(step: step, ranks: ranks)
        #expect(run.names == expected, "step \(step)")
        #expect(try run.restore(ranks: 2)?.step == step)
      }
    }
  }

  /// A run that went on from an older checkpoint passes steps again.
  @Test func aStepIsWrittenAgain() throws {
    try withTemporaryRun { run in
      for step in [5, 10] { try run.save(step: step, ranks: 2) }
      try run.save(step: 10, ranks: 4)
      #expect(run.names == ["checkpoint-10", "checkpoint-10.previous"])
      #expect(try run.restore(ranks: 3)?.step == 10)
      try run.save(step: 10, ranks: 2)
      try run.save(step: 15, ranks: 2)
      #expect(run.names == ["checkpoint-10", "checkpoint-15"])
      // Checkpoints newer than the step just saved belong to a run that was given up.
      try run.save(step: 12, ranks: 2)
      #expect(run.names == ["checkpoint-10", "checkpoint-12"])
    }
  }

  /// A checkpoint that cannot be opened does not count as the one before, so the last whole one stays.
  @Test func whatCannotBeOpenedTakesNoPlace() throws {
    try withTemporaryRun { run in
      for step in [5, 10] { try run.save(step: step, ranks: 2) }
      try Data("half".utf8).write(to: URL(filePath: "\(run.path)/checkpoint-10/manifest.json"))
      try run.save(step: 15, ranks: 3)
      #expect(run.names == ["checkpoint-15", "checkpoint-5"])
    }
  }

  /// A run that went on from an older checkpoint keeps it until two newer ones are whole.
  @Test(arguments: [1, 3], [20, 25]) func theOneThatWasGoneOnFromStays(ranks: Int, next: Int) throws {
    try withTemporaryRun { run in
      for step in [10, 20] { try run.save(step: step, ranks: 2) }
      let shard = URL(filePath: "\(run.path)/checkpoint-20/rank-00001-of-00002.safetensors")
      var bytes = try Data(contentsOf: shard)
      bytes[bytes.count - 7] ^= 1
      try bytes.write(to: shard)
      let found = try #require(try run.checkpoints.find())
      #expect(found.step == 10 && found.damaged == ["checkpoint-20"])
      try run.save(step: next, ranks: ranks, damaged: found.damaged)
      let newest = ranks == 1 ? "checkpoint.safetensors" : "checkpoint-\(next)"
      #expect(run.names == ["checkpoint-10", newest].sorted())
      let restored = try run.restore(ranks: 2)
      #expect(restored?.step == next && restored?.note == nil)
      try run.save(step: 30, ranks: 2)
      #expect(run.names == ["checkpoint-30", newest].sorted())
    }
  }

  /// Leaves what a kill at each stage of a save leaves.
  @Test(arguments: 0..<6) func aKilledWriterLeavesTheLastOneWhole(stage: Int) throws {
    try withTemporaryRun { run in
      for step in [5, 10, 15] { try run.save(step: step, ranks: 3) }
      let (new, next) = (
        URL(filePath: "\(run.path)/checkpoint-15"), URL(filePath: "\(run.path)/checkpoint-next")
      )
      let files = FileManager.default
      let shard = "rank-00001-of-00003.safetensors"
      switch stage {
      case 0:  // Some shards, one of them half.
        try files.moveItem(at: new, to: next)
        try files.removeItem(at: next.appending(path: "manifest.json"))
        try files.moveItem(at: next.appending(path: shard), to: next.appending(path: "\(shard).1.2.tmp"))
      case 1:  // All shards and no manifest.
        try files.moveItem(at: new, to: next)
        try files.removeItem(at: next.appending(path: "manifest.json"))
      case 2:  // A manifest, and not yet the name.
        try files.moveItem(at: new, to: next)
      case 3:  // The name, and the older ones not removed.
        try files.copyItem(at: new, to: URL(filePath: "\(run.path)/checkpoint-5"))
      case 4:  // Half removed.
        try files.createDirectory(atPath: "\(run.path)/checkpoint-5.tmp", withIntermediateDirectories: true)
        try Data("half".utf8).write(to: URL(filePath: "\(run.path)/checkpoint-5.tmp/\(shard)"))
      default:  // One of the same step gave up its name, and the new one has it not yet.
        try files.moveItem(at: new, to: URL(filePath: "\(run.path)/checkpoint-15.previous"))
        try files.createDirectory(at: next, withIntermediateDirectories: true)
      }
      let expected = stage < 3 ? 10 : 15
      for ranks in [1, 4] {
        let found = try run.restore(ranks: ranks)
        #expect(found?.step == expected && found?.note == nil)
      }
      run.checkpoints.removeLeftovers()
      try run.save(step: 20, ranks: 2)
      let kept = stage == 5 ? "checkpoint-15.previous" : "checkpoint-\(expected)"
      #expect(run.names == [kept, "checkpoint-20"])
    }
  }

  @Test func noCheckpointIsNoneAndALostOneIsMissed() throws {
    try withTemporaryRun { run in
      #expect(try run.restore(ranks: 2) == nil)
      try Data("{}\n".utf8).write(to: URL(filePath: "\(run.path)/metrics.jsonl"))
      #expect(try run.complaint(ranks: 2).contains("checkpoint.safetensors: cannot be opened"))
    }
  }
}
