/// A JSON value of any type, kept to be printed.
package enum JSONSetting: Decodable, Sendable, Equatable {
  case null
  case bool(Bool)
  case integer(Int)
  case number(Double)
  case string(String)
  case list([JSONSetting])
  case object([String: JSONSetting])

  package init(from decoder: any Decoder) throws {
    let container = try decoder.singleValueContainer()
    if container.decodeNil() {
      self = .null
    } else if let value = try? container.decode(Bool.self) {
      self = .bool(value)
    } else if let value = try? container.decode(Int.self) {
      self = .integer(value)
    } else if let value = try? container.decode(Double.self) {
      self = .number(value)
    } else if let value = try? container.decode(String.self) {
      self = .string(value)
    } else if let value = try? container.decode([JSONSetting].self) {
      self = .list(value)
    } else {
      self = .object(try container.decode([String: JSONSetting].self))
    }
  }

  /// Returns the value at a path of keys in the JSON; nil where the path does not exist.
  func value(at path: [any CodingKey]) -> JSONSetting? {
    var value = self
    for key in path {
      switch value {
      case .object(let members):
        guard let member = members[key.stringValue] else { return nil }
        value = member
      case .list(let elements):
        guard let index = key.intValue, elements.indices.contains(index) else { return nil }
        value = elements[index]
      default: return nil
      }
    }
    return value
  }
}
