import Foundation
import MoECheckpoints
import MoECore
import Testing

/// Names are their bytes: Unicode calls these two equal, the formats do not.
@Suite struct NamesTests {
  static let composed = "caf\u{E9}"
  static let decomposed = "cafe\u{301}"

  @Test func twoFormsOfOneCharacterAreTwoTensors() throws {
    #expect(Self.composed == Self.decomposed)
    var writer = SafetensorsWriter(metadata: [Self.composed: "1", Self.decomposed: "2"])
    try writer.add(Self.composed, [1, 2] as [Float], shape: [2])
    try writer.add(Self.decomposed, [3] as [Float], shape: [1])
    // Canonically equal to “K”.
    try writer.add("\u{212A}", [4] as [Float], shape: [1])
    expectComplaint("already taken") { try writer.add(Self.composed, [1] as [Float], shape: [1]) }
    let file = try SafetensorsFile(bytes: writer.bytes(), name: "x")
    #expect(file.names.count == 3 && file.tensors.count == 3)
    #expect(try file.floats(named: Self.composed) == [1, 2])
    #expect(try file.floats(named: Self.decomposed) == [3])
    #expect(file.metadata[Self.composed] == "1" && file.metadata[Self.decomposed] == "2")
    expectComplaint("tensor “K” is missing") { try file.floats(named: "K") }
  }

  @Test func aNameIsTwiceInAnObjectWhereItsBytesAre() throws {
    let value = try JSONValue(
      parsing: Array(#"{"\#(Self.composed)":1,"\#(Self.decomposed)":2}"#.utf8), path: "x")
    guard case .object(let members) = value else { return #expect(Bool(false)) }
    #expect(members[Self.composed] == .integer(1) && members[Self.decomposed] == .integer(2))
    #expect(members.keys.map { Array($0.utf8) } == [Self.decomposed, Self.composed].map { Array($0.utf8) })
    expectComplaint("twice in one object") {
      try JSONValue(parsing: Array(#"{"\#(Self.composed)":1,"caf\u00e9":2}"#.utf8), path: "x")
    }
  }

  /// A tensor whose name begins with a combining accent after the block's prefix is in the block.
  @Test func aStrangerIsFoundByTheBytesOfItsName() throws {
    var files = try fixtureFiles("mixtral")
    let file = try SafetensorsFile(bytes: files["model.safetensors"]!, name: "mixtral")
    var writer = SafetensorsWriter()
    for name in file.names { try writer.add(name, file.floats(named: name), shape: file.tensor(name).shape) }
    try writer.add("model.layers.0.block_sparse_moe.\u{301}x", [1] as [Float], shape: [1])
    files["model.safetensors"] = writer.bytes()
    let checkpoint = try Checkpoint(files: files)
    expectComplaint("is unexpected") { try checkpoint.layer("0") }
    _ = try checkpoint.layer("1")
  }
}
