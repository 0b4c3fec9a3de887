package import Foundation

/// An error in a file of a run's folder.
///
/// The description is one plain sentence without a full stop. It names the file, the line if the file has one record
/// per line, the value, and what was expected.
public struct RunError: Error, Sendable, Equatable, CustomStringConvertible {
  /// The file or folder.
  public let path: String
  /// The number of the line, from 1; nil for files that do not have one record per line.
  public let line: Int?
  /// The sentence without file and line.
  public let complaint: String

  /// Makes an error about the file at `path`.
  public init(_ path: String, line: Int? = nil, _ complaint: String) {
    self.path = path
    self.line = line
    self.complaint = complaint
  }

  /// One plain sentence without a full stop.
  public var description: String {
    line.map { "\(path) line \($0): \(complaint)" } ?? "\(path): \(complaint)"
  }
}

/// Decodes JSON.
///
/// - Throws: ``RunError`` that names the value.
package func decode<Value: Decodable>(
  _ type: Value.Type, from contents: Data, path: String, line: Int? = nil,
  keys: JSONDecoder.KeyDecodingStrategy = .useDefaultKeys
) throws(RunError) -> Value {
  let decoder = JSONDecoder()
  decoder.keyDecodingStrategy = keys
  do {
    return try decoder.decode(type, from: contents)
  } catch DecodingError.dataCorrupted {
    // Foundation throws this error both for text that is no JSON and for a number that does not fit its type.
    let isJSON = (try? decoder.decode(JSONSetting.self, from: contents)) != nil
    let complaint = isJSON ? "a count in it has a fraction or is too large" : "this is not JSON"
    throw RunError(path, line: line, notANumber(contents) ?? complaint)
  } catch {
    throw RunError(path, line: line, (error as? DecodingError)?.complaint ?? "this is not JSON")
  }
}

/// Returns the complaint about a bare NaN or Infinity, which JSON does not allow; nil if there is none.
private func notANumber(_ contents: Data) -> String? {
  let text = String(decoding: contents, as: UTF8.self)
  let pattern = /"([^"\\]*)"\s*:\s*\[?(?:[^"{}\[\]]*,)?\s*(-?(?:[Nn]a[Nn]|[Ii]nf(?:inity)?))\b/
  return text.firstMatch(of: pattern).map { "“\($0.1)” is \($0.2), expected a finite number" }
}

extension DecodingError {
  /// The sentence that names the value that is missing or of the wrong type.
  var complaint: String {
    switch self {
    case .keyNotFound(let key, let context): "\(Self.name(context.codingPath + [key])) is missing"
    case .typeMismatch(let type, let context), .valueNotFound(let type, let context):
      "\(Self.name(context.codingPath)) is not \(Self.expected(type))"
    case .dataCorrupted: "this is not JSON"
    @unknown default: "this cannot be read"
    }
  }

  private static func name(_ path: [any CodingKey]) -> String {
    var name = ""
    for key in path {
      name += key.intValue.map { "[\($0)]" } ?? (name.isEmpty ? key.stringValue : ".\(key.stringValue)")
    }
    return name.isEmpty ? "the file" : "“\(name)”"
  }

  private static func expected(_ type: any Any.Type) -> String {
    switch type {
    case is Int.Type: "an integer"
    case is Double.Type: "a number"
    case is String.Type: "a string"
    case is Bool.Type: "true or false"
    default: "\(type)".hasPrefix("Array") ? "a list" : "an object"
    }
  }
}
