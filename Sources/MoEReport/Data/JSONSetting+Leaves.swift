internal import MoERun

extension JSONSetting {
  /// Returns the leaves with their paths, such as `training.optimizer.beta1`.
  ///
  /// The members of an object are in alphabetic order. A list of plain values is one leaf.
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
