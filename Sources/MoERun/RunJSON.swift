package import Foundation

/// Reads and writes the JSON of a run's files.
package enum RunJSON {
  /// Returns a value as JSON text with sorted keys, so that equal values have equal texts.
  ///
  /// - Precondition: all numbers of `value` are finite.
  package static func text(_ value: some Encodable, isPretty: Bool = false) -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting =
      isPretty
      ? [.sortedKeys, .withoutEscapingSlashes, .prettyPrinted] : [.sortedKeys, .withoutEscapingSlashes]
    return String(decoding: try! encoder.encode(value), as: UTF8.self)
  }

  /// Decodes a value.
  ///
  /// - Parameters:
  ///   - path: the file that errors name.
  ///   - line: the line that errors name, from 1; nil for a file that has one value.
  /// - Throws: ``RunError`` with one sentence about the value that is missing, has another type, or is out of range.
  package static func decode<Value: Decodable>(
    _ type: Value.Type, from contents: Data, path: String, line: Int? = nil,
    keys: JSONDecoder.KeyDecodingStrategy = .useDefaultKeys
  ) throws(RunError) -> Value {
    let decoder = JSONDecoder()
    decoder.keyDecodingStrategy = keys
    do {
      return try decoder.decode(type, from: contents)
    } catch let error as RunFormat.Unknown {
      throw RunError(path, line: line, error.complaint)
    } catch DecodingError.dataCorrupted(let context) {
      throw RunError(path, line: line, complaint(context, contents))
    } catch {
      throw RunError(path, line: line, (error as? DecodingError)?.complaint ?? "this is not JSON")
    }
  }

  /// Returns the sentence for a `dataCorrupted` error. Foundation throws this one error for text that is not JSON,
  /// for a number that does not fit its type, and for a name that is not a case of an enumeration.
  private static func complaint(_ context: DecodingError.Context, _ contents: Data) -> String {
    if let complaint = notANumber(contents) { return complaint }
    guard let root = try? JSONDecoder().decode(JSONSetting.self, from: contents) else {
      return "this is not JSON"
    }
    if case .string(let text)? = root.value(at: context.codingPath) {
      return "\(name(context.codingPath)) is “\(text)”, which is none of the names it may have"
    }
    return "a count in it has a fraction or is too large"
  }

  /// Returns the complaint about a bare NaN or Infinity, which JSON does not have; nil where the text has none.
  private static func notANumber(_ contents: Data) -> String? {
    let text = String(decoding: contents, as: UTF8.self)
    let pattern = /"([^"\\]*)"\s*:\s*\[?(?:[^"{}\[\]]*,)?\s*(-?(?:[Nn]a[Nn]|[Ii]nf(?:inity)?))\b/
    return text.firstMatch(of: pattern).map { "“\($0.1)” is \($0.2), expected a finite number" }
  }

  /// Returns the path of a value, such as `“model.blocks[2].routing”`.
  fileprivate static func name(_ path: [any CodingKey]) -> String {
    var name = ""
    for key in path {
      name += key.intValue.map { "[\($0)]" } ?? (name.isEmpty ? key.stringValue : ".\(key.stringValue)")
    }
    return name.isEmpty ? "the file" : "“\(name)”"
  }
}

extension DecodingError {
  /// The sentence about JSON that does not have the expected structure.
  fileprivate var complaint: String {
    switch self {
    case .keyNotFound(let key, let context): "\(RunJSON.name(context.codingPath + [key])) is missing"
    case .typeMismatch(let type, let context), .valueNotFound(let type, let context):
      "\(RunJSON.name(context.codingPath)) is not \(Self.expected(type))"
    case .dataCorrupted: "this is not JSON"
    @unknown default: "this cannot be read"
    }
  }

  private static func expected(_ type: any Any.Type) -> String {
    switch type {
    case is any FixedWidthInteger.Type: "an integer"
    case is any BinaryFloatingPoint.Type: "a number"
    case is String.Type: "a string"
    case is Bool.Type: "true or false"
    default: "\(type)".hasPrefix("Array") ? "a list" : "an object"
    }
  }
}
