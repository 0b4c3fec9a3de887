import MoECheckpoints
import Testing

@Suite struct JSONTests {
  private func parse(_ text: String) throws -> JSONValue {
    try JSONValue(parsing: Array(text.utf8), path: "test.json")
  }

  @Test(arguments: [
    (" null ", JSONValue.null), ("true", .bool(true)), ("false", .bool(false)), ("0", .integer(0)),
    ("-12", .integer(-12)), ("9223372036854775807", .integer(.max)), ("-9223372036854775808", .integer(.min)),
    ("9223372036854775808", .number(0x1p63)), ("1.0", .number(1)), ("-2.5e-3", .number(-0.0025)),
    ("1E2", .number(100)), ("-0", .integer(0)), ("[]", .array([])), ("{}", .object([:])),
    ("[1, [2]]", .array([.integer(1), .array([.integer(2)])])),
    (#"{"a": {"b": null}, "c": ""}"#, .object(["a": .object(["b": .null]), "c": .string("")])),
    (#""\"\\\/\b\f\n\r\t""#, .string("\"\\/\u{8}\u{C}\n\r\t")), (#""\u0041\u00e9é""#, .string("Aéé")),
    (#""\ud83d\ude00""#, .string("😀")), ("\"\u{7F}\"", .string("\u{7F}")),
  ])
  func accepts(_ text: String, _ value: JSONValue) throws {
    #expect(try parse(text) == value)
  }

  @Test(arguments: [
    ("", "its end where a value"), ("nul", "where a value"), ("01", "leading zero"), ("-", "a digit"),
    ("1.", "a digit"), ("1e", "a digit"), ("1e400", "which no double holds"), ("NaN", "where a value"),
    ("Infinity", "where a value"), ("+1", "where a value"), ("[1,]", "where a value"),
    ("[1 2]", "end of a list"),
    (#"{"a":1,}"#, "a name in quotes"), (#"{"a" 1}"#, "a colon"), ("{1:2}", "a name in quotes"),
    (#"{"a":1 "b":2}"#, "end of an object"), ("1 2", "the end of the JSON text"),
    ("\"a", "the end of a string"),
    ("\"\n\"", "a control character"), (#""\x""#, "an escape"), (#""\u12g4""#, "a hexadecimal digit"),
    (#""\ud800""#, "half of a surrogate pair"), (#""\ud800\u0041""#, "half of a surrogate pair"),
    (#""\udc00""#, "half of a surrogate pair"), (#"{"a":1,"a":1}"#, "the name “a” twice"),
    (#"{"a":1,"\u0061":1}"#, "the name “a” twice"),
    (String(repeating: "[", count: 100_000), "deeper than 64"),
    (String(repeating: #"{"a":"#, count: 65) + "1" + String(repeating: "}", count: 65), "deeper than 64"),
  ])
  func refuses(_ text: String, _ complaint: String) {
    expectComplaint(complaint, "\(text.prefix(40))") { try parse(text) }
  }

  @Test func refusesWhatIsNotUTF8() {
    for bytes: [UInt8] in [[0x22, 0xFF, 0x22], [0x22, 0xC0, 0x80, 0x22], [0x22, 0xED, 0xA0, 0x80, 0x22]] {
      expectComplaint("not UTF-8") { try JSONValue(parsing: bytes, path: "test.json") }
    }
    expectComplaint("byte 239 where a value") { try parse("\u{FEFF}1") }
  }

  @Test func acceptsTheDeepestNesting() throws {
    _ = try parse(String(repeating: "[", count: 64) + String(repeating: "]", count: 64))
  }
}
