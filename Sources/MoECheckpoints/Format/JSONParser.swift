/// Parses a document by recursive descent; `position` is the next unread byte.
struct JSONParser {
  let bytes: [UInt8]
  let path: String
  private var position = 0
  private var depth = 0

  init(bytes: [UInt8], path: String) {
    self.bytes = bytes
    self.path = path
  }

  mutating func document() throws(CheckpointError) -> JSONValue {
    let value = try value()
    skipSpace()
    if position < bytes.count { throw unexpected("the end of the JSON text") }
    return value
  }

  private mutating func value() throws(CheckpointError) -> JSONValue {
    skipSpace()
    switch next {
    case UInt8(ascii: "{"): return try nested { parser throws(CheckpointError) in try parser.object() }
    case UInt8(ascii: "["): return try nested { parser throws(CheckpointError) in try parser.array() }
    case UInt8(ascii: "\""): return .string(try string())
    case UInt8(ascii: "-")?: return try number()
    case let byte? where isDigit(byte): return try number()
    case UInt8(ascii: "t"): return try literal("true", .bool(true))
    case UInt8(ascii: "f"): return try literal("false", .bool(false))
    case UInt8(ascii: "n"): return try literal("null", .null)
    default: throw unexpected("a value")
    }
  }

  private mutating func nested(
    _ body: (inout JSONParser) throws(CheckpointError) -> JSONValue
  ) throws(CheckpointError) -> JSONValue {
    depth += 1
    defer { depth -= 1 }
    if depth > JSONValue.depthLimit { throw error("nests deeper than \(JSONValue.depthLimit) levels") }
    position += 1
    return try body(&self)
  }

  private mutating func object() throws(CheckpointError) -> JSONValue {
    var members = NamedValues<JSONValue>()
    if skip("}") { return .object(members) }
    repeat {
      skipSpace()
      guard next == UInt8(ascii: "\"") else { throw unexpected("a name in quotes") }
      let start = position
      let name = try string()
      guard skip(":") else { throw unexpected("a colon after the name \(quoted(name))") }
      let value = try value()
      guard members.updateValue(value, forKey: name) == nil else {
        position = start
        throw error("has the name \(quoted(name)) twice in one object")
      }
    } while skip(",")
    guard skip("}") else { throw unexpected("a comma or the end of an object") }
    return .object(members)
  }

  private mutating func array() throws(CheckpointError) -> JSONValue {
    var elements: [JSONValue] = []
    if skip("]") { return .array(elements) }
    repeat { elements.append(try value()) } while skip(",")
    guard skip("]") else { throw unexpected("a comma or the end of a list") }
    return .array(elements)
  }

  private mutating func literal(_ word: String, _ value: JSONValue) throws(CheckpointError) -> JSONValue {
    guard bytes[position...].starts(with: word.utf8) else { throw unexpected("a value") }
    position += word.utf8.count
    return value
  }

  private mutating func number() throws(CheckpointError) -> JSONValue {
    let start = position
    if next == UInt8(ascii: "-") { position += 1 }
    let leading = next
    let whole = skipDigits()
    guard whole > 0 else { throw unexpected("a digit") }
    guard leading != UInt8(ascii: "0") || whole == 1 else { throw error("has a number with a leading zero") }
    var isInteger = true
    if next == UInt8(ascii: ".") {
      isInteger = false
      position += 1
      guard skipDigits() > 0 else { throw unexpected("a digit") }
    }
    if next == UInt8(ascii: "e") || next == UInt8(ascii: "E") {
      isInteger = false
      position += 1
      if next == UInt8(ascii: "+") || next == UInt8(ascii: "-") { position += 1 }
      guard skipDigits() > 0 else { throw unexpected("a digit") }
    }
    let text = String(decoding: bytes[start..<position], as: UTF8.self)
    if isInteger, let exact = Int(text) { return .integer(exact) }
    guard let value = Double(text), value.isFinite else {
      position = start
      throw error("has the number \(quoted(text)), which no double holds")
    }
    return .number(value)
  }

  // MARK: Bytes

  private var next: UInt8? { position < bytes.count ? bytes[position] : nil }

  private mutating func skipSpace() {
    while let byte = next, byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 { position += 1 }
  }

  /// Skips white space and then `mark`, if it comes next.
  private mutating func skip(_ mark: Unicode.Scalar) -> Bool {
    skipSpace()
    guard next == UInt8(ascii: mark) else { return false }
    position += 1
    return true
  }

  private mutating func skipDigits() -> Int {
    let start = position
    while let byte = next, isDigit(byte) { position += 1 }
    return position - start
  }

  private func isDigit(_ byte: UInt8) -> Bool { byte >= UInt8(ascii: "0") && byte <= UInt8(ascii: "9") }

  private func error(_ complaint: String) -> CheckpointError {
    CheckpointError(path, "the JSON text \(complaint) (byte \(position))")
  }

  private func unexpected(_ expectation: String) -> CheckpointError {
    let found = next.map { $0 >= 0x20 && $0 < 0x7F ? "“\(Character(Unicode.Scalar($0)))”" : "byte \($0)" }
    return error("has \(found ?? "its end") where \(expectation) was expected")
  }
}

// MARK: Strings

extension JSONParser {
  private mutating func string() throws(CheckpointError) -> String {
    position += 1
    var text: [UInt8] = []
    while let byte = next {
      switch byte {
      case UInt8(ascii: "\""):
        guard let string = String(validating: text, as: UTF8.self) else {
          throw error("has a string that is not UTF-8")
        }
        position += 1
        return string
      case UInt8(ascii: "\\"):
        position += 1
        text += String(try escape()).utf8
      case 0..<0x20: throw error("has a control character in a string")
      default:
        text.append(byte)
        position += 1
      }
    }
    throw unexpected("the end of a string")
  }

  /// Reads what follows a backslash.
  private mutating func escape() throws(CheckpointError) -> Unicode.Scalar {
    guard let byte = next else { throw unexpected("an escape") }
    if byte == UInt8(ascii: "u") {
      position += 1
      return try unicodeEscape()
    }
    let meanings: [UInt8: Unicode.Scalar] = [
      UInt8(ascii: "\""): "\"", UInt8(ascii: "\\"): "\\", UInt8(ascii: "/"): "/", UInt8(ascii: "b"): "\u{8}",
      UInt8(ascii: "f"): "\u{C}", UInt8(ascii: "n"): "\n", UInt8(ascii: "r"): "\r", UInt8(ascii: "t"): "\t",
    ]
    guard let meaning = meanings[byte] else { throw unexpected("an escape") }
    position += 1
    return meaning
  }

  /// Reads `XXXX`, or the pair `XXXX\uXXXX` of a character beyond U+FFFF.
  private mutating func unicodeEscape() throws(CheckpointError) -> Unicode.Scalar {
    let first = try hexadecimal()
    if let scalar = Unicode.Scalar(first) { return scalar }
    if first < 0xDC00, bytes[position...].starts(with: [UInt8(ascii: "\\"), UInt8(ascii: "u")]) {
      position += 2
      let second = try hexadecimal()
      if (0xDC00..<0xE000).contains(second) {
        let code = 0x10000 + (first - 0xD800) << 10 + (second - 0xDC00)
        if let scalar = Unicode.Scalar(code) { return scalar }
      }
    }
    throw error("has half of a surrogate pair in a string")
  }

  private mutating func hexadecimal() throws(CheckpointError) -> UInt32 {
    var value: UInt32 = 0
    for _ in 0..<4 {
      guard let byte = next, let digit = Character(Unicode.Scalar(byte)).hexDigitValue, byte < 0x80 else {
        throw unexpected("a hexadecimal digit")
      }
      value = value << 4 | UInt32(digit)
      position += 1
    }
    return value
  }
}
