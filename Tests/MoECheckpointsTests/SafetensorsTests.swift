import Foundation
import MoECheckpoints
import MoECore
import Testing

@Suite struct SafetensorsTests {
  private func writer() throws -> SafetensorsWriter {
    var writer = SafetensorsWriter(metadata: ["format": "pt", "a \"quoted\"\n": "\u{1}é"])
    try writer.add("z", Matrix(rows: 2, columns: 3, elements: [1, -2, 3.5, .infinity, 0, -0.0]))
    try writer.add("ids", [1, -1, .max, .min], shape: [2, 2])
    try writer.add("scalar", [Float.nan], shape: [])
    try writer.add("empty", [Float](), shape: [3, 0])
    return writer
  }

  @Test func roundTrip() throws {
    try withTemporaryFolder { folder in
      let path = folder.appending(path: "x.safetensors").path
      try writer().write(to: path)
      let file = try SafetensorsFile(path: path)
      #expect(Set(file.names) == ["z", "ids", "scalar", "empty"])
      #expect(file.metadata == ["format": "pt", "a \"quoted\"\n": "\u{1}é"])
      #expect(
        try file.matrix(named: "z")
          == Matrix(rows: 2, columns: 3, elements: [1, -2, 3.5, .infinity, 0, -0.0]))
      #expect(try file.integers(named: "ids") == [1, -1, .max, .min])
      #expect(try file.tensor("ids").shape == [2, 2])
      #expect(try file.floats(named: "scalar")[0].isNaN)
      #expect(try file.floats(named: "empty") == [])
      #expect(try Array(Data(contentsOf: URL(filePath: path))) == writer().bytes())
      #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path) == ["x.safetensors"])
    }
  }

  @Test func headerIsPaddedAndBytesAreTheSameEachTime() throws {
    let bytes = try writer().bytes()
    let length = bytes[0..<8].reversed().reduce(0) { $0 << 8 | Int($1) }
    #expect(length % 8 == 0)
    #expect(try bytes == writer().bytes())
    let text = String(decoding: bytes[8..<8 + length], as: UTF8.self)
    let places = ["\"z\":", "\"ids\":", "\"scalar\":", "\"empty\":"].map {
      text.firstRange(of: $0)!.lowerBound
    }
    #expect(places == places.sorted())
  }

  @Test func writerRefusesWhatNoReaderWouldAccept() throws {
    var writer = try writer()
    expectComplaint("already taken") { try writer.add("z", [Float](), shape: [0]) }
    expectComplaint("already taken") { try writer.add("__metadata__", [Float](), shape: [0]) }
    expectComplaint("2 elements, expected those of shape [3]") {
      try writer.add("y", [1, 2] as [Float], shape: [3])
    }
    expectComplaint("expected those of shape") { try writer.add("y", [Float](), shape: [-1, 0]) }
    expectComplaint("expected those of shape") { try writer.add("y", [Float](), shape: [.max, .max]) }
  }

  @Test func failedWriteLeavesNothingBehind() throws {
    try withTemporaryFolder { folder in
      let path = folder.appending(path: "x.safetensors").path
      expectComplaint("cannot be created in the folder “\(folder.path)/none/”: No such file") {
        try writer().write(to: "\(folder.path)/none/x.safetensors")
      }
      expectComplaint("“”: is not the name of a file") { try writer().write(to: "") }
      try writer().write(to: "/dev/null")
      try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: false)
      expectComplaint("is a folder, expected the name of a file") { try writer().write(to: path) }
      #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path) == ["x.safetensors"])
    }
  }

  @Test func everyHalfIsConvertedExactly() throws {
    let codes = (0...UInt16.max).map { $0 }
    let data = codes.flatMap { [UInt8(truncatingIfNeeded: $0), UInt8($0 >> 8)] }
    for type in ["F16", "BF16"] {
      // One byte before the data, so that no element is aligned.
      let header =
        #"{"b":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"t":{"dtype":"\#(type)","shape":[256,256],"#
        + #""data_offsets":[1,131073]}}"#
      let file = try SafetensorsFile(bytes: safetensors(header) + [0] + data, name: type)
      let floats = try file.floats(named: "t")
      #expect(try file.matrix(named: "t").elements.map(\.bitPattern) == floats.map(\.bitPattern))
      for code in codes {
        let expected =
          type == "F16" ? Float(Float16(bitPattern: code)) : Float(bitPattern: UInt32(code) << 16)
        let found = floats[Int(code)]
        if expected.isNaN ? !found.isNaN : found.bitPattern != expected.bitPattern {
          Issue.record("\(type) \(code) became \(found), expected \(expected)")
        }
      }
    }
  }

  @Test func typesAreChecked() throws {
    let file = try SafetensorsFile(bytes: writer().bytes(), name: "x")
    expectComplaint("“ids” is I32, expected F32, F16 or BF16") { try file.floats(named: "ids") }
    expectComplaint("“z” is F32, expected I32") { try file.integers(named: "z") }
    expectComplaint("“scalar” has shape [], expected two dimensions") { try file.matrix(named: "scalar") }
    expectComplaint("“none” is missing") { try file.bytes(named: "none") }
    #expect(try file.bytes(named: "scalar").count == 4)
  }
}
