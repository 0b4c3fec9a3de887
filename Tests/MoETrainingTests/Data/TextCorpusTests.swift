import Foundation
import MoERun
import MoETraining
import Testing

/// Calls `body` with a new folder, and removes it.
private func withFolder(_ body: (URL) throws -> Void) throws {
  let folder = FileManager.default.temporaryDirectory.appending(path: "moe-\(UUID())")
  try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
  defer { try? FileManager.default.removeItem(at: folder) }
  try body(folder)
}

extension URL {
  fileprivate func write(_ name: String, _ bytes: some Sequence<UInt8>) throws {
    let file = appending(path: name)
    try FileManager.default.createDirectory(
      at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
    try Data(bytes).write(to: file)
  }
}

/// Numbered lines of about 40 bytes.
private func lines(_ count: Int, _ word: String = "line") -> [UInt8] {
  Array((0..<count).map { "\(word) \($0) of a text that has \(count) of them\n" }.joined().utf8)
}

@Suite struct TextCorpusTests {
  @Test func aFolderIsReadRecursivelyAndWhatIsNoTextIsListed() throws {
    try withFolder { folder in
      try folder.write("de/b.txt", lines(10, "b"))
      try folder.write("de/deep/a", lines(10, "a"))
      try folder.write("de/a.dat", [1, 0, 2])
      try folder.write("de/latin", [0x61, 0xE4, 0x62])
      try folder.write("de/empty", [])
      try folder.write("de/same", lines(10, "b"))
      try folder.write("de/.hidden", lines(10, "hidden"))
      try FileManager.default.createSymbolicLink(
        atPath: folder.path + "/de/link.u8", withDestinationPath: folder.path + "/de/b.txt")
      let corpus = try TextCorpus([folder.path + "/de"])
      #expect(corpus.files.map { $0.path.replacing(folder.path, with: "") } == ["/de/b.txt", "/de/deep/a"])
      #expect(corpus.texts.map(\.label) == ["de"])
      let reasons = corpus.skipped.map { "\(URL(filePath: $0.path).lastPathComponent): \($0.reason)" }
      #expect(
        reasons == [
          ".hidden: a hidden file", "a.dat: the file is not text: byte 1 is zero", "empty: the file is empty",
          "latin: the file is not UTF-8: byte 1 begins no character",
          "link.u8: the same file as \(folder.path)/de/b.txt",
          "same: the same bytes as \(folder.path)/de/b.txt",
        ])
    }
  }

  @Test func labelsAreNamesOrAsGiven() throws {
    try withFolder { folder in
      try folder.write("a.b/x", lines(5, "x"))
      try folder.write("shakespeare.txt", lines(5, "y"))
      try folder.write("z=1.txt", lines(5, "z"))
      try folder.write("w", lines(5, "w"))
      let corpus = try TextCorpus(
        ["a.b", "shakespeare.txt", "z=1.txt"].map { "\(folder.path)/\($0)" } + ["en=\(folder.path)/w"])
      #expect(corpus.texts.map(\.label) == ["a.b", "shakespeare", "z=1", "en"])
    }
  }

  @Test func aFileNamedByItselfMustBeText() throws {
    try withFolder { folder in
      try folder.write("zero", Array("abc".utf8) + [0])
      try folder.write("empty", [])
      try folder.write("bad", Array("grün ".utf8) + [0xFF])
      try folder.write("cut", Array("grün ".utf8) + [0xC3])
      for (name, complaint) in [
        ("zero", "byte 3 is zero"), ("empty", "the file is empty"), ("bad", "byte 6 begins no character"),
        ("cut", "byte 6 begins no character"), ("missing", "there is no such file or folder"),
      ] {
        let path = "\(folder.path)/\(name)"
        #expect { try TextCorpus([path]) } throws: { "\($0)".hasPrefix(path) && "\($0)".hasSuffix(complaint) }
      }
    }
  }

  @Test func oneBlockInTwentyIsHeldOutAndNothingIsLost() throws {
    try withFolder { folder in
      let text = lines(5000)
      try folder.write("a", text)
      let corpus = try TextCorpus([folder.path + "/a"])
      let (train, held) = (corpus.texts[0].train, corpus.texts[0].validation)
      #expect(train.count + held.count == text.count)
      #expect(corpus.files[0].trainBytes == train.count && corpus.files[0].validationBytes == held.count)
      #expect((0.03...0.06).contains(Double(held.count) / Double(text.count)))
      #expect(train.last == UInt8(ascii: "\n") && held.last == UInt8(ascii: "\n"))
      let all = Set(text.split(separator: UInt8(ascii: "\n")))
      let parts = [train, held].map { Set($0.split(separator: UInt8(ascii: "\n"))) }
      #expect(parts[0].isDisjoint(with: parts[1]) && parts[0].union(parts[1]) == all)
    }
  }

  @Test func theSplitDoesNotDependOnOtherLabelsOrTheOrderOfFiles() throws {
    try withFolder { folder in
      try folder.write("a/1", lines(900, "one"))
      try folder.write("a/2", lines(900, "two"))
      try folder.write("b", lines(900, "other"))
      let alone = try TextCorpus([folder.path + "/a"])
      let together = try TextCorpus([folder.path + "/b", folder.path + "/a"])
      let isSame = alone.texts[0].validation == together.texts[1].validation
      #expect(isSame)
      try FileManager.default.moveItem(atPath: folder.path + "/a/1", toPath: folder.path + "/a/3")
      let renamed = try TextCorpus([folder.path + "/a"])
      let holdsTheSame = renamed.texts[0].validation.sorted() == alone.texts[0].validation.sorted()
      #expect(holdsTheSame)
    }
  }

  @Test func aLineWithoutEndIsCutBetweenCharacters() throws {
    try withFolder { folder in
      let text = Array(String(repeating: "äöü€", count: 4000).utf8)
      try folder.write("a", text)
      let corpus = try TextCorpus([folder.path + "/a"])
      #expect(corpus.texts[0].validation.count > 0)
      for part in [corpus.texts[0].train, corpus.texts[0].validation] {
        #expect(String(validating: part, as: UTF8.self) != nil)
      }
    }
  }

  @Test func theFingerprintChangesWithAByte() throws {
    try withFolder { folder in
      var text = lines(100)
      try folder.write("a", text)
      let first = try TextCorpus([folder.path + "/a"]).fingerprint
      #expect(try TextCorpus([folder.path + "/a"]).fingerprint == first)
      text[50] ^= 1
      try folder.write("a", text)
      #expect(try TextCorpus([folder.path + "/a"]).fingerprint != first)
    }
  }

  @Test func batchesAreAFunctionOfSeedAndStep() throws {
    try withFolder { folder in
      try folder.write("a", lines(1000, "aaaa"))
      try folder.write("b", lines(100, "bbbb"))
      let corpus = try TextCorpus([folder.path + "/a", folder.path + "/b"])
      func sampler(seed: UInt64, balances: Bool = false) throws -> BatchSampler {
        try BatchSampler(
          corpus, sequenceLength: 64, batchSize: 8, seed: seed, balancesLabels: balances)
      }
      let batch = try sampler(seed: 1).batch(at: 5)
      #expect(batch.inputs.count == 512 && batch.targets.count == 512)
      #expect(try batch == sampler(seed: 1).batch(at: 5))
      #expect(try batch != sampler(seed: 1).batch(at: 6))
      #expect(try batch != sampler(seed: 2).batch(at: 5))
      for sequence in 0..<8 {
        let range = sequence * 64..<(sequence + 1) * 64
        #expect(batch.inputs[range].dropFirst() == batch.targets[range].dropLast())
      }
      func share(_ sampler: BatchSampler) -> Double {
        let bytes = (1...200).flatMap { sampler.batch(at: $0).inputs }
        let counts = "ab".utf8.map { letter in bytes.count { $0 == letter } }
        return Double(counts[1]) / Double(counts[0] + counts[1])
      }
      // The text has an “a” of its own, so that the share is below that of the label.
      let (plain, balanced) = (share(try sampler(seed: 3)), share(try sampler(seed: 3, balances: true)))
      #expect((0.02...0.12).contains(plain), "\(plain)")
      #expect((0.2...0.4).contains(balanced), "\(balanced)")
    }
  }

  @Test func everyPlaceOfAShortTextIsDrawn() throws {
    try withFolder { folder in
      try folder.write("a", Array("abcdefgh".utf8))
      let corpus = try TextCorpus([folder.path + "/a"])
      let sampler = try BatchSampler(corpus, sequenceLength: 5, batchSize: 4, seed: 1)
      let starts = Set(
        (1...20).flatMap { step in
          stride(from: 0, to: 20, by: 5).map { sampler.batch(at: step).inputs[$0] }
        })
      #expect(starts == Set("abc".utf8))
      #expect { try BatchSampler(corpus, sequenceLength: 8, batchSize: 4, seed: 1) } throws: {
        "\($0)".contains("a: the text has 8 bytes to train on, expected at least 9")
      }
    }
  }

  @Test func heldOutSequencesDoNotOverlap() throws {
    try withFolder { folder in
      try folder.write("a", lines(5000))
      try folder.write("b", lines(20))
      let corpus = try TextCorpus([folder.path + "/a", folder.path + "/b"])
      let held = HeldOutSequences(corpus, sequenceLength: 100, perLabel: 10)
      #expect(held.count == 10 && held.missing == ["b"] && held.labelOfSequence.allSatisfy { $0 == 0 })
      #expect(Set(stride(from: 0, to: 1000, by: 100).map { Array(held.inputs[$0..<$0 + 100]) }).count == 10)
      #expect(held.inputs[1..<100] == held.targets[0..<99])
    }
  }

  @Test func classesOfBytes() {
    let classes = Array("aZ7 \n.é".utf8).map { ByteClass($0) }
    #expect(classes == [.letter, .upper, .digit, .space, .space, .punctuation, .nonASCII, .nonASCII])
  }
}
