/// A JSON document of RFC 8259.
///
/// A name that occurs twice in an object is an error, although most parsers accept it: in a list of tensors it means
/// that one of them is lost. Names are compared by their UTF-8 bytes.
public enum JSONValue: Sendable, Equatable {
  /// `null`.
  case null
  /// `true` or `false`.
  case bool(Bool)
  /// A number without fraction and exponent that an `Int` holds exactly.
  case integer(Int)
  /// Any other number, always finite.
  case number(Double)
  /// A string.
  case string(String)
  /// A list of values.
  case array([JSONValue])
  /// Values by name; every name occurs once.
  case object(NamedValues<JSONValue>)

  /// The deepest nesting that is accepted: a deeper document could exhaust the stack.
  public static let depthLimit = 64

  /// Parses a whole document in UTF-8.
  ///
  /// - Parameters:
  ///   - bytes: the document: one value, with white space around it or without.
  ///   - path: the file that errors name.
  /// - Throws: ``CheckpointError`` with the byte offset of what is not JSON.
  public init(parsing bytes: [UInt8], path: String) throws(CheckpointError) {
    var parser = JSONParser(bytes: bytes, path: path)
    self = try parser.document()
  }

  /// The value in words, for errors.
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
