import Foundation
import MoE
import MoECheckpoints
import MoETraining
import Testing

/// A checkpoint of three ranks that something has happened to: it is refused by name, and the one before it takes its
/// place.
@Suite struct DamagedCheckpointTests {
  struct Damage: Sendable, CustomTestStringConvertible {
    var testDescription: String
    var complaints: [String]
    var inflict: @Sendable (URL) throws -> Void

    init(_ name: String, _ complaints: String..., inflict: @escaping @Sendable (URL) throws -> Void) {
      testDescription = name
      self.complaints = complaints
      self.inflict = inflict
    }

    /// Replaces a text in the manifest.
    static func manifest(_ name: String, _ complaint: String, _ old: String, _ new: String) -> Damage {
      Damage(name, "manifest.json: ", complaint) { folder in
        let file = folder.appending(path: "manifest.json")
        let text = try String(contentsOf: file, encoding: .utf8)
        let place = try #require(text.range(of: old), "\(old) in \(text)")
        try text.replacingCharacters(in: place, with: new).write(to: file, atomically: true, encoding: .utf8)
      }
    }
  }

  static let shard = "rank-00001-of-00003.safetensors"
  /// On the middle rank of three, which has the experts 2, 3 and 4.
  static let tensor = "layers.0.experts.3.up"

  static func rewrite(_ file: URL, _ change: (inout Data) -> Void) throws {
    var data = try Data(contentsOf: file)
    change(&data)
    try data.write(to: file)
  }

  /// Writes a shard and its digest in the manifest anew, with other tensors, and tells the manifest of them or not.
  static func rewriteShard(
    _ folder: URL, andManifest: Bool = false, _ change: (inout [String: Matrix]) -> Void
  ) throws {
    let file = try SafetensorsFile(path: folder.appending(path: shard).path)
    var tensors: [String: Matrix] = [:]
    for name in file.names { tensors[name] = try file.matrix(named: name) }
    change(&tensors)
    var writer = SafetensorsWriter(metadata: file.metadata)
    for (name, matrix) in tensors.sorted(by: { $0.key < $1.key }) { try writer.add(name, matrix) }
    let path = folder.appending(path: "manifest.json").path
    var manifest = try CheckpointManifest(parsing: contents(ofFile: path, atMost: .max), path: path)
    manifest.files[1] = try writer.writeDigested(to: folder.appending(path: shard).path)
    if andManifest {
      manifest.tensors = manifest.tensors.filter { $0.value.file != 1 }
      for (name, matrix) in tensors { manifest.tensors[name] = .init(shape: matrix.shape, file: 1) }
    }
    try Data(manifest.json.utf8).write(to: URL(filePath: path))
  }

  static let damages: [Damage] = [
    Damage("a truncated shard", shard, "“", "the file has only") { folder in
      try rewrite(folder.appending(path: shard)) { $0.removeLast(100) }
    },
    Damage("an empty shard", shard, "0 bytes", "it holds tensor “") { folder in
      try rewrite(folder.appending(path: shard)) { $0 = Data() }
    },
    Damage("a longer shard", shard, "4 bytes at the end") { folder in
      try rewrite(folder.appending(path: shard)) { $0.append(Data(count: 4)) }
    },
    Damage("a flipped bit", shard, "has the SHA-256", "it holds tensor “", "more") { folder in
      try rewrite(folder.appending(path: shard)) { $0[$0.count - 7] ^= 1 }
    },
    Damage("a flipped bit in a header", shard, "“") { folder in
      try rewrite(folder.appending(path: shard)) { $0[40] ^= 1 }
    },
    Damage("a missing shard", shard, "cannot be opened: No such file", "it holds tensor “") { folder in
      try FileManager.default.removeItem(at: folder.appending(path: shard))
    },
    Damage("a shard that is a folder", shard, "is a folder") { folder in
      try FileManager.default.removeItem(at: folder.appending(path: shard))
      try FileManager.default.createDirectory(
        at: folder.appending(path: shard), withIntermediateDirectories: true)
    },
    Damage("one shard more", "rank-00003-of-00004.safetensors", "none of those that manifest.json names") {
      try FileManager.default.copyItem(
        at: $0.appending(path: shard), to: $0.appending(path: "rank-00003-of-00004.safetensors"))
    },
    Damage("two shards that changed places", "-of-00003.safetensors: tensor “", "is missing") { folder in
      let (a, b) = (folder.appending(path: shard), folder.appending(path: "rank-00002-of-00003.safetensors"))
      let bytes = try Data(contentsOf: a)
      try Data(contentsOf: b).write(to: a)
      try bytes.write(to: b)
    },
    Damage("a shard without a tensor", shard, "tensor “\(tensor)” is missing") { folder in
      try rewriteShard(folder) { $0[tensor] = nil }
    },
    Damage("a shard with one tensor more", shard, "tensor “more” is none") { folder in
      try rewriteShard(folder) { $0["more"] = Matrix(rows: 1, columns: 1) }
    },
    Damage("a tensor of another shape in the shard", shard, "“\(tensor)” is F32 of shape [12, 20]") {
      folder in
      try rewriteShard(folder) { $0[tensor] = Matrix(rows: 12, columns: 20) }
    },
    Damage("a checkpoint of another step", "manifest.json: it is of step 5") { folder in
      let before = folder.deletingLastPathComponent().appending(path: "checkpoint-5")
      try FileManager.default.removeItem(at: folder)
      try FileManager.default.copyItem(at: before, to: folder)
    },
    Damage("no manifest", "manifest.json: cannot be opened") { folder in
      try FileManager.default.removeItem(at: folder.appending(path: "manifest.json"))
    },
    Damage("half a manifest", "manifest.json: the JSON text") { folder in
      try rewrite(folder.appending(path: "manifest.json")) { $0.removeLast($0.count / 2) }
    },
    Damage("a manifest that is no file", "manifest.json: is not a regular file") { folder in
      try FileManager.default.removeItem(at: folder.appending(path: "manifest.json"))
      let status = unsafe mkfifo(folder.appending(path: "manifest.json").path, 0o600)
      try #require(status == 0)
    },
    Damage("an empty object", "manifest.json: the manifest has no value as format") { folder in
      try Data("{}".utf8).write(to: folder.appending(path: "manifest.json"))
    },
    .manifest("a path that leads out", "file 1 is “../\(shard)”, expected “\(shard)”", shard, "../\(shard)"),
    .manifest("an absolute path", "file 1 is “/etc/passwd”", shard, "/etc/passwd"),
    .manifest("a file twice", "file 1 is “rank-00000", shard, "rank-00000-of-00003.safetensors"),
    .manifest(
      "a tensor twice", "the name “norm” twice", "\"tensors\": {",
      "\"tensors\": {\"norm\": {\"shape\": [1, 12], \"file\": 0},"),
    .manifest("a negative size", "file 0 has -", "\"bytes\": ", "\"bytes\": -"),
    .manifest(
      "a huge size", "as bytes, expected an integer", "\"bytes\": ", "\"bytes\": 100000000000000000000"),
    .manifest("a size beyond numbers", "no double holds", "\"bytes\": ", "\"bytes\": 1e99"),
    .manifest("a hash that is none", "has the SHA-256 “xyz", "\"sha256\": \"", "\"sha256\": \"xyz"),
    .manifest(
      "a negative extent", "“embedding” has -64 in its shape", "\"embedding\": {\"shape\": [64",
      "\"embedding\": {\"shape\": [-64"),
    .manifest(
      "a huge extent", "“embedding” has a shape whose size overflows", "\"embedding\": {\"shape\": [64",
      "\"embedding\": {\"shape\": [9223372036854775807"),
    .manifest(
      "a tensor larger than its file", "“embedding” has 4800000000 bytes", "\"embedding\": {\"shape\": [64",
      "\"embedding\": {\"shape\": [100000000"),
    .manifest(
      "three dimensions", "“embedding” has shape [1, 64, 12]", "\"embedding\": {\"shape\": [64",
      "\"embedding\": {\"shape\": [1, 64"),
    .manifest("a file that is not there", "is in file 7", "\"file\": ", "\"file\": 7"),
    .manifest("a negative file", "has -1", "\"file\": ", "\"file\": -1"),
    .manifest("another version", "has format 3, expected 2 or less", "\"format\": 2", "\"format\": 3"),
    .manifest("a changed text in the metadata", "not the text of its own SHA-256", "small", "smell"),
    .manifest("a space more", "not the text of its own SHA-256", "\"step\": ", "\"step\":  "),
    Damage("a changed hash of the manifest", "manifest.json: the manifest is not the text of its own SHA-256")
    {
      try rewrite($0.appending(path: "manifest.json")) { data in
        let digit = data.count - 6
        data[digit] = data[digit] == UInt8(ascii: "0") ? UInt8(ascii: "1") : UInt8(ascii: "0")
      }
    },
    .manifest("a negative step", "has -10 as step", "\"step\": 10", "\"step\": -10"),
    .manifest("a step that is a text", "as step, expected", "\"step\": 10", "\"step\": \"10\""),
    .manifest("an unknown field", "the unknown field “more”", "\"format\"", "\"more\": 1, \"format\""),
    .manifest("metadata that is a number", "has 4 as “model”", "\"small \\\"one\\\"\"", "4"),
    Damage("no files", "manifest.json: the manifest names no file") { folder in
      try Data(#"{"format":1,"step":10,"metadata":{},"files":[],"tensors":{}}"#.utf8).write(
        to: folder.appending(path: "manifest.json"))
    },
  ]

  @Test(arguments: damages) func isRefusedByNameAndTheOneBeforeTakesItsPlace(damage: Damage) throws {
    try withTemporaryRun { run in
      for step in [5, 10] { try run.save(step: step, ranks: 3) }
      try damage.inflict(URL(filePath: "\(run.path)/checkpoint-10"))
      for ranks in [1, 2, 4] {
        let found = try #require(try run.restore(ranks: ranks))
        #expect(found.step == 5)
        let note = try #require(found.note)
        for part in damage.complaints + ["checkpoint-10/", "checkpoint-5 of step 5, takes its place"] {
          #expect(note.contains(part), "\(note)")
        }
      }
      try FileManager.default.removeItem(atPath: "\(run.path)/checkpoint-5")
      for ranks in [1, 3] {
        let complaint = try run.complaint(ranks: ranks)
        for part in damage.complaints { #expect(complaint.contains(part), "\(complaint)") }
      }
    }
  }

  /// A flipped bit anywhere is found, whichever rank has to find it.
  @Test func everyFlippedBitIsFound() throws {
    try withTemporaryRun { run in
      try run.save(step: 10, ranks: 3)
      var generator = SeededGenerator(seed: 1)
      for file in (0..<3).map({ CheckpointManifest.fileName(rank: $0, of: 3) }) {
        let url = URL(filePath: "\(run.path)/checkpoint-10/\(file)")
        let whole = try Data(contentsOf: url)
        for _ in 0..<12 {
          var broken = whole
          broken[Int(generator.next() % UInt64(whole.count))] ^= 1 << UInt8(generator.next() % 8)
          try broken.write(to: url)
          #expect(try run.complaint(ranks: 2).contains(file))
        }
        try whole.write(to: url)
      }
      #expect(try run.restore(ranks: 2)?.step == 10)
    }
  }

  /// A whole checkpoint of another model is an error, not damage.
  @Test func aCheckpointOfAnotherModelIsRefused() throws {
    try withTemporaryRun { run in
      for step in [5, 10] { try run.save(step: step, ranks: 3) }
      let folder = URL(filePath: "\(run.path)/checkpoint-10")
      try Self.rewriteShard(folder, andManifest: true) { $0[Self.tensor] = nil }
      #expect(try run.complaint(ranks: 2).contains("manifest.json: tensor “\(Self.tensor)” is missing"))
      try Self.rewriteShard(folder, andManifest: true) { $0[Self.tensor] = Matrix(rows: 12, columns: 20) }
      #expect(try run.complaint(ranks: 2).contains("\(Self.shard): tensor “\(Self.tensor)” is F32 of shape"))
      try Self.rewriteShard(folder, andManifest: true) {
        $0[Self.tensor] = Matrix(rows: 20, columns: 12)
        $0["more"] = Matrix(rows: 1, columns: 2)
      }
      #expect(try run.complaint(ranks: 2).contains("tensor “more” is none of this model"))
    }
  }
}
