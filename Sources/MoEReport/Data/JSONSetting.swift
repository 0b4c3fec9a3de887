/// A JSON value of any shape, which is kept only to be shown.
enum JSONSetting: Decodable, Equatable {
  case null
  case bool(Bool)
  case integer(Int)
  case number(Double)
  case string(String)
  case list([JSONSetting])
  case object([String: JSONSetting])

  init(from decoder: any Decoder) throws {
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

  /// Returns the leaves with their paths, such as `training.optimizer.beta1`. An object's members are in alphabetic
  /// order. A list of plain values is one leaf.
  func flattened(_ path: String = "") -> [(path: String, value: String)] {
    switch self {
    case .object(let members) where !members.isEmpty:
      members.sorted { $0.key < $1.key }.flatMap { key, value in
        value.flattened(path.isEmpty ? key : "\(path).\(key)")
      }
    case .list(let values) where values.contains(where: \.isContainer):
      values.enumerated().flatMap { index, value in value.flattened("\(path)[\(index)]") }
    default: [(path, text)]
    }
  }

  private var isContainer: Bool {
    switch self {
    case .list, .object: true
    default: false
    }
  }

  private var text: String {
    switch self {
    case .null: "none"
    case .bool(let value): value ? "yes" : "no"
    case .integer(let value): grouped(value)
    case .number(let value): "\(value)"
    case .string(let value): value
    case .list(let values): values.isEmpty ? "none" : values.map(\.text).joined(separator: ", ")
    case .object: "none"
    }
  }
}
