import MoECheckpoints
import Testing

/// Types that the format has, or may get, and that are not computed here.
@Suite struct ElementTypeTests {
  struct Stored: Sendable, CustomTestStringConvertible {
    var type: String
    var shape: [Int]
    var byteCount: Int
    var testDescription: String { "\(type) \(shape)" }

    init(_ type: String, _ shape: [Int], _ byteCount: Int) {
      (self.type, self.shape, self.byteCount) = (type, shape, byteCount)
    }

    /// A file with four bytes of F32 called `a` and this tensor, called `b`.
    var file: [UInt8] {
      let (end, name) = (4 + byteCount, jsonString(type))
      return safetensors(
        #"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":\#(name),"shape":\#(shape),"#
          + #""data_offsets":[4,\#(end)]}}"#, data: end)
    }
  }

  static let readable = [
    Stored("F4", [2, 4], 4), Stored("F6_E2M3", [4], 3), Stored("F6_E3M2", [2, 4], 6),
    Stored("F8_E4M3", [3], 3),
    Stored("F8_E5M2", [3], 3), Stored("F8_E8M0", [3], 3), Stored("F8_E4M3FNUZ", [2], 2),
    Stored("F8_E5M2FNUZ", [2], 2), Stored("C64", [2], 16), Stored("F64", [1], 8), Stored("BOOL", [5], 5),
    Stored("F4", [0], 0),
    // Not known, so that any number of bytes may be right.
    Stored("I4", [3], 2), Stored("U4", [3], 3), Stored("F7", [8], 7), Stored("", [2], 1),
    Stored("f32", [2], 5),
    Stored("a\n\u{1B}[2J", [2], 1), Stored("X", [], 0),
  ]

  @Test(arguments: readable) func isNotInTheWay(_ stored: Stored) throws {
    let file = try SafetensorsFile(bytes: stored.file, name: "x")
    #expect(try file.floats(named: "a").count == 1)
    let tensor = try file.tensor("b")
    #expect(tensor.type.rawValue == stored.type && tensor.shape == stored.shape)
    #expect(tensor.count == stored.shape.reduce(1, *))
    #expect(try file.bytes(named: "b").count == stored.byteCount)
    let type = stored.type == "a\n\u{1B}[2J" ? #"“a\n\u{1B}[2J”"# : "\(tensor.type)"
    expectComplaint("tensor “b” is \(type), expected F32, F16 or BF16") { try file.floats(named: "b") }
    expectComplaint("tensor “b” is \(type), expected I32") { try file.integers(named: "b") }
    if stored.shape.count == 2 {
      expectComplaint("tensor “b” is \(type), expected F32, F16 or BF16") { try file.matrix(named: "b") }
    }
  }

  @Test(arguments: [
    (Stored("F4", [3], 2), "of F4, 12 bits, expected whole bytes"),
    (Stored("F6_E2M3", [2], 2), "of F6_E2M3, 12 bits, expected whole bytes"),
    (Stored("F4", [2, 4], 8), "has 8 bytes, expected 4 for shape [2, 4] of F4"),
    (Stored("C64", [2], 8), "has 8 bytes, expected 16 for shape [2] of C64"),
    (Stored("F8_E4M3", [2], 3), "has 3 bytes, expected 2"),
    (Stored("F4", [.max], 4), "whose size overflows 64 bits"),
    (Stored("F7", [.max, 2], 4), "whose size overflows 64 bits"),
  ])
  func sizesOfKnownTypesAreChecked(_ stored: Stored, _ complaint: String) {
    expectComplaint(complaint) { try SafetensorsFile(bytes: stored.file, name: "x") }
  }

  /// Bytes of a tensor of an unknown type still have to lie in the file, beside those of others.
  @Test func offsetsOfUnknownTypesAreChecked() {
    for (offsets, complaint) in [
      ("[4,9]", "the file has only 8"), ("[2,8]", "overlap"), ("[6,8]", "2 bytes before tensor “b”"),
      ("[4,6]", "2 bytes at the end"), ("[8,4]", "ends before"),
    ] {
      expectComplaint(complaint) {
        try SafetensorsFile(
          bytes: safetensors(
            #"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F7","shape":[1],"#
              + #""data_offsets":\#(offsets)}}"#, data: 8), name: "x")
      }
    }
  }
}
