import Foundation
import MoECheckpoints
import Testing

/// Files that break a rule of the format, and what is said of them.
@Suite struct HostileFileTests {
  struct Case: Sendable, CustomTestStringConvertible {
    var name: String
    var complaint: String
    var bytes: [UInt8]
    var testDescription: String { name }

    init(_ name: String, _ complaint: String, _ bytes: [UInt8]) {
      self.name = name
      self.complaint = complaint
      self.bytes = bytes
    }

    /// A file with one tensor `t`.
    init(_ name: String, _ complaint: String, tensor: String, data: Int = 8) {
      self.init(name, complaint, safetensors("{\"t\":\(tensor)}", data: data))
    }
  }

  private static func length(_ length: UInt64, then rest: String = "{}") -> [UInt8] {
    (0..<8).map { UInt8(truncatingIfNeeded: length >> ($0 * 8)) } + Array(rest.utf8)
  }

  private static func two(_ first: String, _ second: String, data: Int) -> [UInt8] {
    func tensor(_ offsets: String) -> String {
      "{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[\(offsets)]}"
    }
    return safetensors("{\"a\":\(tensor(first)),\"b\":\(tensor(second))}", data: data)
  }

  static let cases: [Case] = [
    Case("empty", "is 0 bytes long", []),
    Case("seven bytes", "is 7 bytes long", [1, 2, 3, 4, 5, 6, 7]),
    Case("header of length 0", "the header is 0 bytes long", length(0, then: "")),
    Case("header of length 2^60", "expected at most 100000000", length(1 << 60)),
    Case("header of length 2^63", "expected at most 100000000", length(1 << 63)),
    Case("header of length 2^64 − 1", "expected at most 100000000", length(.max)),
    Case("header longer than the file", "the file ends after 2", length(3)),
    Case("header that is not UTF-8", "not UTF-8", [4, 0, 0, 0, 0, 0, 0, 0, 0x7B, 0x22, 0xFF, 0x22]),
    Case("header that is not JSON", "where a value was expected", safetensors("hello")),
    Case("header that is a list", "not a JSON object", safetensors("[]")),
    Case("header that ends early", "its end", safetensors("{\"t\":")),
    Case("header with more after its object", "the end of the JSON text", safetensors("{}x")),
    Case(
      "one name twice", "the name “t” twice",
      safetensors(
        #"{"t":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"t":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}"#,
        data: 2)),
    Case("tensor that is no object", "“t” is 5", tensor: "5"),
    Case("no dtype", "no value as dtype", tensor: #"{"shape":[2],"data_offsets":[0,8]}"#),
    Case("dtype that is no string", "7 as dtype", tensor: #"{"dtype":7,"shape":[2],"data_offsets":[0,8]}"#),
    Case("no shape", "no value as shape", tensor: #"{"dtype":"F32","data_offsets":[0,8]}"#),
    Case("shape that is no list", "2 as shape", tensor: #"{"dtype":"F32","shape":2,"data_offsets":[0,8]}"#),
    Case("negative extent", "-2 in its shape", tensor: #"{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}"#),
    Case(
      "fractional extent", "2.5 in its shape", tensor: #"{"dtype":"F32","shape":[2.5],"data_offsets":[0,8]}"#),
    Case(
      "extent beyond 64 bits", "in its shape",
      tensor: #"{"dtype":"F32","shape":[18446744073709551616],"data_offsets":[0,8]}"#),
    Case(
      "overflowing shape", "overflows 64 bits",
      tensor: #"{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]}"#),
    Case(
      "overflowing size", "overflows 64 bits",
      tensor: #"{"dtype":"F64","shape":[2305843009213693952],"data_offsets":[0,8]}"#),
    Case("no offsets", "no value as data_offsets", tensor: #"{"dtype":"F32","shape":[2]}"#),
    Case("one offset", "1 data_offsets", tensor: #"{"dtype":"F32","shape":[2],"data_offsets":[0]}"#),
    Case(
      "negative offset", "-8 in its data_offsets",
      tensor: #"{"dtype":"F32","shape":[2],"data_offsets":[-8,0]}"#),
    Case(
      "begin after end", "ends before, at 0", tensor: #"{"dtype":"F32","shape":[2],"data_offsets":[8,0]}"#),
    Case(
      "end beyond the file", "the file has only 8",
      tensor: #"{"dtype":"F32","shape":[3],"data_offsets":[0,12]}"#),
    Case(
      "end at 2^63 − 1", "the file has only 8",
      tensor: #"{"dtype":"F32","shape":[3],"data_offsets":[0,9223372036854775807]}"#),
    Case(
      "bytes that are not those of the shape", "8 bytes, expected 4",
      tensor: #"{"dtype":"F32","shape":[1],"data_offsets":[0,8]}"#),
    Case(
      "unknown field", "unknown field “x”",
      tensor: #"{"dtype":"F32","shape":[2],"data_offsets":[0,8],"x":1}"#),
    Case("overlap", "“a” and “b” overlap", two("0,4", "2,6", data: 6)),
    Case("the same bytes twice", "“a” and “b” overlap", two("0,4", "0,4", data: 4)),
    Case("hole", "4 bytes before tensor “b”", two("0,4", "8,12", data: 12)),
    Case("hole at the start", "2 bytes before tensor “a”", two("2,6", "6,10", data: 10)),
    Case("bytes after the last tensor", "3 bytes at the end", two("0,4", "4,8", data: 11)),
    Case("bytes and no tensor", "1 bytes at the end", safetensors("{}", data: 1)),
    Case("metadata that is no object", "__metadata__ is 1", safetensors(#"{"__metadata__":1}"#)),
    Case("metadata that is no string", "“k” in __metadata__ is 1", safetensors(#"{"__metadata__":{"k":1}}"#)),
    Case("a name with line breaks", #"“a\nb” is 1"#, safetensors(#"{"a\nb":1}"#)),
    Case("a long name", "…” is 1", safetensors("{\"\(String(repeating: "x", count: 5000))\":1}")),
  ]

  @Test(arguments: cases)
  func isRefused(_ hostile: Case) {
    expectComplaint(hostile.complaint) {
      try SafetensorsFile(bytes: hostile.bytes, name: "hostile.safetensors")
    }
    expectComplaint("hostile.safetensors: ") {
      try SafetensorsFile(bytes: hostile.bytes, name: "hostile.safetensors")
    }
  }

  @Test(arguments: cases)
  func isRefusedOnDisk(_ hostile: Case) throws {
    try withTemporaryFolder { folder in
      let file = folder.appending(path: "hostile.safetensors")
      try Data(hostile.bytes).write(to: file)
      expectComplaint(hostile.complaint) { try SafetensorsFile(path: file.path) }
    }
  }

  @Test func whatIsNoFileIsRefused() throws {
    try withTemporaryFolder { folder in
      expectComplaint("No such file") { try SafetensorsFile(path: folder.appending(path: "none").path) }
      expectComplaint("not a regular file") { try SafetensorsFile(path: folder.path) }
      expectComplaint("not a regular file") { try SafetensorsFile(path: "/dev/zero") }
      expectComplaint("zero byte") { try SafetensorsFile(path: "a\0b") }
    }
  }

  @Test func everyPrefixOfAFileIsRefused() throws {
    let whole = try #require(try fixtureFiles("jamba")["expected.safetensors"])
    for count in stride(from: 0, to: whole.count, by: 7) {
      expectComplaint("short") { try SafetensorsFile(bytes: Array(whole[..<count]), name: "short") }
    }
  }
}
