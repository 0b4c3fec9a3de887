/// A JSON document as RFC 8259 has it, and nothing more: a name that occurs twice in an object, which most
/// parsers pass over, is an error, because in a list of tensors it means that one of them is lost.
public enum JSONValue: Sendable, Equatable {
  /// `null`.
  case null
  /// `true` or `false`.
  case bool(Bool)
  /// A number without fraction and exponent that an `Int` holds exactly.
  case integer(Int)
  /// Any other number; always finite.
  case number(Double)
  /// A string.
  case string(String)
  /// A list of values.
  case array([JSONValue])
  /// Values by name; every name occurs once.
  case object([String: JSONValue])

  /// Values nested deeper than this are refused, so that no document exhausts the stack.
  public static let depthLimit = 64

  /// Parses a whole document in UTF-8.
  ///
  /// - Parameters:
  ///   - bytes: the document; white space may surround the value, nothing else may.
  ///   - path: the file that errors name.
  /// - Throws: ``CheckpointError`` with the byte offset of what is not JSON.
  public init(parsing bytes: [UInt8], path: String) throws(CheckpointError) {
    var parser = JSONParser(bytes: bytes, path: path)
    self = try parser.document()
  }

  /// What the value is, in words.
  package var kind: String {
    switch self {
    case .null: "null"
    case .bool(let value): "\(value)"
    case .integer(let value): "\(value)"
    case .number(let value): "\(value)"
    case .string(let value): quoted(value)
    case .array: "a list"
    case .object: "an object"
    }
  }
}
