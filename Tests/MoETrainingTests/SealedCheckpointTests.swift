import Foundation
import MoE
import MoECheckpoints
import MoETraining
import Testing

/// Checkpoints of one rank: damage anywhere is found, and the one before takes its place.
@Suite struct SealedCheckpointTests {
  private func newest(_ run: RunFolder) -> URL { URL(filePath: "\(run.path)/checkpoint.safetensors") }

  @Test func everyFlippedBitIsFound() throws {
    try withTemporaryRun { run in
      for step in [5, 10] { try run.save(step: step, ranks: 1) }
      let whole = try Data(contentsOf: newest(run))
      #expect(try run.restore(ranks: 1)?.step == 10)
      #expect(try run.restore(ranks: 1)?.note == nil)
      let headerEnd = 8 + Int(whole[0..<8].reversed().reduce(0 as UInt64) { $0 << 8 | UInt64($1) })
      var generator = SeededGenerator(seed: 1)
      // Every byte of the metadata, where the seal is, and some of all others.
      var places = Array(0..<500)
      for range in [500..<headerEnd, headerEnd..<whole.count] {
        for _ in 0..<40 { places.append(range.lowerBound + Int(generator.next() % UInt64(range.count))) }
      }
      for place in places {
        var broken = whole
        broken[place] ^= 1 << UInt8(generator.next() % 8)
        try broken.write(to: newest(run))
        let found = try #require(try run.checkpoints.find())
        #expect(found.step == 5 && found.damaged == ["checkpoint.safetensors"], "byte \(place)")
        let note = try #require(found.note)
        #expect(
          note.hasPrefix("\(newest(run).path): ") && note.contains("of step 5, takes its place"), "\(note)")
      }
    }
  }

  /// While the newest is damaged, nothing that is saved may cost the one that is whole.
  @Test func aDamagedOneDisplacesNoWholeOne() throws {
    try withTemporaryRun { run in
      for step in [5, 10] { try run.save(step: step, ranks: 1) }
      var bytes = try Data(contentsOf: newest(run))
      bytes[bytes.count - 3] ^= 4
      try bytes.write(to: newest(run))
      let found = try #require(try run.checkpoints.find())
      #expect(found.step == 5)
      try run.save(step: 6, ranks: 1, damaged: found.damaged)
      #expect(try run.restore(ranks: 1)?.step == 6)
      try FileManager.default.removeItem(at: newest(run))
      #expect(try run.restore(ranks: 1)?.step == 5)
    }
  }

  /// Ranks of a larger number find the damage too.
  @Test func ranksReadAFileOfOneRank() throws {
    try withTemporaryRun { run in
      for step in [5, 10] { try run.save(step: step, ranks: 1) }
      #expect(try run.restore(ranks: 3)?.step == 10)
      var bytes = try Data(contentsOf: newest(run))
      bytes[bytes.count / 2] ^= 1
      try bytes.write(to: newest(run))
      let found = try #require(try run.restore(ranks: 3))
      #expect(found.step == 5 && found.note?.contains("so it is damaged") == true)
    }
  }

  /// A run that went from two ranks to one has a folder and a file. A smaller step in the damaged file would put it
  /// behind the folder.
  @Test func aDamagedStepDoesNotHideAFileBehindAFolder() throws {
    try withTemporaryRun { run in
      try run.save(step: 5, ranks: 2)
      try run.save(step: 10, ranks: 1)
      var bytes = try Data(contentsOf: newest(run))
      let step = try #require(bytes.range(of: Data(#""step":"10""#.utf8)))
      bytes.replaceSubrange(step, with: Data(#""step":"01""#.utf8))
      try bytes.write(to: newest(run))
      let found = try #require(try run.checkpoints.find())
      #expect(found.step == 5 && found.damaged == ["checkpoint.safetensors"])
      #expect(found.note?.hasPrefix("\(newest(run).path): ") == true)
    }
  }

  private func rewrite(_ run: RunFolder, _ change: (inout NamedValues<String>) -> Void) throws {
    let file = try SafetensorsFile(path: newest(run).path)
    var metadata = file.metadata
    change(&metadata)
    var writer = SafetensorsWriter(metadata: metadata)
    for name in file.names { try writer.add(name, file.matrix(named: name)) }
    try writer.write(to: newest(run).path)
  }

  @Test func aFileWithoutSealIsReadWithANote() throws {
    try withTemporaryRun { run in
      try run.save(step: 5, ranks: 1)
      try rewrite(run) { $0 = $0.filter { !["checkpoint_format", "sha256"].contains($0.key) } }
      let found = try #require(try run.checkpoints.find())
      #expect(found.step == 5 && found.damaged.isEmpty)
      #expect(found.note?.contains("without a hash") == true)
    }
  }

  @Test func halfASealAndOtherVersionsAreRefused() throws {
    for (complaint, change) in [
      ("its metadata has no “sha256”", { $0["sha256"] = nil }),
      ("so it is damaged", { $0["checkpoint_format"] = nil }),
      ("has the checkpoint format “3”, expected 2", { $0["checkpoint_format"] = "3" }),
      ("does not have the SHA-256 “” exactly once", { $0["sha256"] = "" }),
    ] as [(String, (inout NamedValues<String>) -> Void)] {
      try withTemporaryRun { run in
        try run.save(step: 5, ranks: 1)
        try rewrite(run, change)
        #expect { try run.checkpoints.find() } throws: { "\($0)".contains(complaint) }
      }
    }
  }
}
