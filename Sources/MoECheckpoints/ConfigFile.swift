/// The config.json of a model, or an object inside it. It is read key by key, and each error names the key and the
/// value.
///
/// Some keys have two names, such as `num_experts` and `num_local_experts`: a file may use either.
struct ConfigFile: Sendable {
  /// The largest size accepted. It is checked before any multiplication, so that no product overflows.
  static let sizeLimit = 1 << 24

  let path: String
  let members: NamedValues<JSONValue>

  init(parsing bytes: [UInt8], path: String) throws(CheckpointError) {
    self.path = path
    guard case .object(let members) = try JSONValue(parsing: bytes, path: path) else {
      throw CheckpointError(path, "is not a JSON object")
    }
    self.members = members
  }

  private init(path: String, members: NamedValues<JSONValue>) {
    self.path = path
    self.members = members
  }

  /// Returns the object under `key`.
  func object(_ key: String) throws(CheckpointError) -> ConfigFile {
    guard case .object(let inner)? = members[key] else { throw wrong(key, expected: "an object") }
    return ConfigFile(path: path, members: inner)
  }

  /// Whether the key has a value other than null.
  func has(_ key: String) -> Bool { members[key].map { $0 != .null } ?? false }

  /// Returns an integer in `range`.
  func integer(
    _ key: String, or alias: String? = nil, default value: Int? = nil, in range: ClosedRange<Int>
  ) throws(CheckpointError) -> Int {
    guard let (key, found) = try lookUp(key, or: alias) else {
      if let value { return value }
      throw missing(key)
    }
    guard case .integer(let integer) = found, range.contains(integer) else {
      throw wrong(key, expected: "an integer from \(range.lowerBound) to \(range.upperBound)")
    }
    return integer
  }

  /// Returns an integer from 1 to 2²⁴.
  func size(_ key: String, or alias: String? = nil, default value: Int? = nil) throws(CheckpointError) -> Int
  {
    try integer(key, or: alias, default: value, in: 1...Self.sizeLimit)
  }

  /// Returns an integer from 0 to 2²⁴.
  func count(_ key: String, or alias: String? = nil, default value: Int? = nil) throws(CheckpointError) -> Int
  {
    try integer(key, or: alias, default: value, in: 0...Self.sizeLimit)
  }

  /// Returns a number that is finite as a `Float`.
  func float(_ key: String, default value: Float) throws(CheckpointError) -> Float {
    let number: Float? =
      switch members[key] {
      case nil: value
      case .integer(let integer): Float(integer)
      case .number(let number): Float(number)
      default: nil
      }
    guard let number, number.isFinite else { throw wrong(key, expected: "a number") }
    return number
  }

  /// Returns a truth value.
  func bool(_ key: String, default value: Bool) throws(CheckpointError) -> Bool {
    switch members[key] {
    case nil: return value
    case .bool(let bool): return bool
    default: throw wrong(key, expected: "true or false")
    }
  }

  /// Returns a string.
  func string(_ key: String, default value: String? = nil) throws(CheckpointError) -> String {
    switch members[key] {
    case .string(let string): return string
    case nil:
      if let value { return value }
      throw missing(key)
    default: throw wrong(key, expected: "a string")
    }
  }

  /// Returns a list of integers, or nil where the key is absent or null.
  func integers(_ key: String) throws(CheckpointError) -> [Int]? {
    guard has(key) else { return nil }
    guard case .array(let elements)? = members[key] else { throw wrong(key, expected: "a list of integers") }
    var integers: [Int] = []
    for element in elements {
      guard case .integer(let integer) = element else {
        throw CheckpointError(path, "\(quoted(key)) contains \(element.kind), expected integers")
      }
      integers.append(integer)
    }
    return integers
  }

  /// Throws where the key has a value that is not one of `supported`. The key may be absent.
  func require(_ key: String, isOneOf supported: JSONValue...) throws(CheckpointError) {
    guard let found = members[key], !supported.contains(found) else { return }
    throw CheckpointError(
      path, "\(quoted(key)) is \(found.kind), supported is \(supported.map(\.kind).joined(separator: " or "))"
    )
  }

  /// Returns the error about the value of `key`.
  func wrong(_ key: String, expected: String) -> CheckpointError {
    guard let found = members[key] else { return missing(key) }
    return CheckpointError(path, "\(quoted(key)) is \(found.kind), expected \(expected)")
  }

  private func missing(_ key: String) -> CheckpointError {
    CheckpointError(path, "\(quoted(key)) is missing")
  }

  private func lookUp(_ key: String, or alias: String?) throws(CheckpointError) -> (String, JSONValue)? {
    if let alias, let other = members[alias] {
      if let value = members[key], value != other {
        throw CheckpointError(
          path, "\(quoted(key)) is \(value.kind) and \(quoted(alias)) is \(other.kind), expected the same")
      }
      return (alias, other)
    }
    return members[key].map { (key, $0) }
  }
}
