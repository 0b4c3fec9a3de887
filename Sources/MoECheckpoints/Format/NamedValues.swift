/// Values by name, where a name is its UTF-8 bytes.
///
/// `String` compares by canonical equivalence: it calls a composed and a decomposed “é” equal. The formats read
/// here compare bytes, so both may be names in one file.
public struct NamedValues<Value> {
  /// A name that equals another only where all bytes are equal.
  private struct Name: Hashable {
    let text: String

    static func == (left: Name, right: Name) -> Bool { left.text.utf8.elementsEqual(right.text.utf8) }

    // Equal bytes have equal hashes as strings; different bytes may share one.
    func hash(into hasher: inout Hasher) { hasher.combine(text) }
  }

  private var values: [Name: Value] = [:]

  /// Makes an empty collection.
  public init() {}

  /// Takes the values of a dictionary.
  public init(_ dictionary: [String: Value]) {
    for (name, value) in dictionary { values[Name(text: name)] = value }
  }

  /// The value called `name`; nil where there is none. Setting nil removes it.
  public subscript(name: String) -> Value? {
    get { values[Name(text: name)] }
    set { values[Name(text: name)] = newValue }
  }

  /// Sets the value called `name`, and returns the one it replaces; nil where the name is new.
  @discardableResult public mutating func updateValue(_ value: Value, forKey name: String) -> Value? {
    values.updateValue(value, forKey: Name(text: name))
  }

  /// The number of values.
  public var count: Int { values.count }
  /// Whether there is no value.
  public var isEmpty: Bool { values.isEmpty }
  /// The names in the order of their bytes.
  public var keys: [String] { values.keys.map(\.text).sorted(by: precedesInBytes) }

  /// Returns those values that `isIncluded` accepts.
  public func filter(_ isIncluded: ((key: String, value: Value)) throws -> Bool) rethrows -> NamedValues {
    var kept = NamedValues()
    for (name, value) in values where try isIncluded((name.text, value)) { kept.values[name] = value }
    return kept
  }
}

extension NamedValues: Sendable where Value: Sendable {}
extension NamedValues: Equatable where Value: Equatable {}

extension NamedValues: Sequence {
  /// Iterates over names and values in the order of the names' bytes.
  public func makeIterator() -> IndexingIterator<[(key: String, value: Value)]> {
    values.map { (key: $0.text, value: $1) }.sorted { precedesInBytes($0.key, $1.key) }.makeIterator()
  }
}

extension NamedValues: ExpressibleByDictionaryLiteral {
  /// Collects names and values; of a name that is given twice, the last value stays.
  public init(dictionaryLiteral elements: (String, Value)...) {
    for (name, value) in elements { values[Name(text: name)] = value }
  }
}

/// Whether the UTF-8 bytes of `left` come before those of `right`.
package func precedesInBytes(_ left: String, _ right: String) -> Bool {
  left.utf8.lexicographicallyPrecedes(right.utf8)
}
