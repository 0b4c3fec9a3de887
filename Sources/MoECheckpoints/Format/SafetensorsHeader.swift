/// The header of a safetensors file, checked against the size of the file.
///
/// The format has three parts. Eight bytes, little-endian, are the length N of the header. N bytes of JSON map each
/// tensor's name to its `dtype`, `shape` and `data_offsets`, and `__metadata__` to strings. The rest is the bytes of
/// the tensors, which cover it without gap or overlap.
///
/// A tensor of a type that is not known here is accepted: its shape says nothing of its size, so its offsets alone
/// are checked.
struct SafetensorsHeader: Equatable {
  var tensors = NamedValues<SafetensorsFile.Tensor>()
  /// The names in the order of their tensors' bytes.
  var names: [String] = []
  var metadata = NamedValues<String>()
  /// The first byte of the data in the file.
  let dataStart: Int

  /// The longest header accepted; the limit of the format's own implementation.
  static let limit = 100_000_000

  init(of bytes: MappedBytes, path: String) throws(CheckpointError) {
    guard bytes.count >= 8 else {
      throw CheckpointError(
        path, "is \(bytes.count) bytes long, expected at least 8: it is not a safetensors file")
    }
    let length = bytes.copy(0..<8).reversed().reduce(0 as UInt64) { $0 << 8 | UInt64($1) }
    guard length > 0 else { throw CheckpointError(path, "the header is 0 bytes long, expected at least 2") }
    guard length <= Self.limit else {
      throw CheckpointError(
        path,
        "the header is \(length) bytes long, expected at most \(Self.limit): it is not a safetensors file")
    }
    guard length <= bytes.count - 8 else {
      throw CheckpointError(
        path, "the header is \(length) bytes long, but the file ends after \(bytes.count - 8) of them")
    }
    dataStart = 8 + Int(length)
    guard case .object(let members) = try JSONValue(parsing: bytes.copy(8..<dataStart), path: path) else {
      throw CheckpointError(path, "the header is not a JSON object")
    }
    for (name, value) in members {
      if name == "__metadata__" {
        metadata = try Self.metadata(value, path: path)
      } else {
        tensors[name] = try Self.tensor(
          name, value, dataStart: dataStart, dataCount: bytes.count - dataStart, path: path)
      }
    }
    names = try Self.order(tensors, dataStart: dataStart, end: bytes.count, path: path)
  }

  private static func metadata(
    _ value: JSONValue, path: String
  ) throws(CheckpointError) -> NamedValues<String> {
    guard case .object(let members) = value else {
      throw CheckpointError(path, "__metadata__ is \(value.kind), expected an object of strings")
    }
    var metadata = NamedValues<String>()
    for (name, value) in members {
      guard case .string(let string) = value else {
        throw CheckpointError(path, "\(quoted(name)) in __metadata__ is \(value.kind), expected a string")
      }
      metadata[name] = string
    }
    return metadata
  }

  private static func tensor(
    _ name: String, _ value: JSONValue, dataStart: Int, dataCount: Int, path: String
  ) throws(CheckpointError) -> SafetensorsFile.Tensor {
    func error(_ complaint: String) -> CheckpointError {
      CheckpointError(path, "tensor \(quoted(name)) \(complaint)")
    }
    guard case .object(let members) = value else {
      throw error("is \(value.kind), expected an object with dtype, shape and data_offsets")
    }
    for key in members.keys where !["dtype", "shape", "data_offsets"].contains(key) {
      throw error("has the unknown field \(quoted(key))")
    }
    guard case .string(let typeName)? = members["dtype"] else {
      throw error("has \(members["dtype"]?.kind ?? "no value") as dtype, expected a string")
    }
    let type = ElementType(rawValue: typeName)
    let shape = try integers(members["shape"], "shape", error)
    let offsets = try integers(members["data_offsets"], "data_offsets", error)
    guard offsets.count == 2 else {
      throw error("has \(offsets.count) data_offsets, expected its begin and end")
    }
    let (begin, end) = (offsets[0], offsets[1])
    guard begin <= end else { throw error("begins at byte \(begin) of the data and ends before, at \(end)") }
    guard end <= dataCount else {
      throw error("ends at byte \(end) of the data, but the file has only \(dataCount)")
    }
    let (count, size) = try size(of: shape, type, error)
    guard size == nil || end - begin == size else {
      throw error("has \(end - begin) bytes, expected \(size!) for shape \(shape) of \(type)")
    }
    return SafetensorsFile.Tensor(
      type: type, shape: shape, count: count, bytes: dataStart + begin..<dataStart + end)
  }

  /// Returns the elements of a shape, and their bytes where the type is known.
  private static func size(
    of shape: [Int], _ type: ElementType, _ error: (String) -> CheckpointError
  ) throws(CheckpointError) -> (count: Int, bytes: Int?) {
    var count = 1
    for factor in shape {
      let (product, overflow) = count.multipliedReportingOverflow(by: factor)
      if overflow { throw error("has shape \(shape), whose size overflows 64 bits") }
      count = product
    }
    guard let bitCount = type.bitCount else { return (count, nil) }
    let (bits, overflow) = count.multipliedReportingOverflow(by: bitCount)
    if overflow { throw error("has shape \(shape), whose size overflows 64 bits") }
    guard bits.isMultiple(of: 8) else {
      throw error("has shape \(shape) of \(type), \(bits) bits, expected whole bytes")
    }
    return (count, bits / 8)
  }

  private static func integers(
    _ value: JSONValue?, _ field: String, _ error: (String) -> CheckpointError
  ) throws(CheckpointError) -> [Int] {
    guard case .array(let elements)? = value else {
      throw error("has \(value?.kind ?? "no value") as \(field), expected a list of integers")
    }
    var integers: [Int] = []
    for element in elements {
      guard case .integer(let integer) = element, integer >= 0 else {
        throw error("has \(element.kind) in its \(field), expected an integer from 0 to 2^63 − 1")
      }
      integers.append(integer)
    }
    return integers
  }

  /// Returns the names in the order of their tensors' bytes.
  ///
  /// - Throws: ``CheckpointError`` where the bytes do not cover the data exactly once.
  private static func order(
    _ tensors: NamedValues<SafetensorsFile.Tensor>, dataStart: Int, end: Int, path: String
  ) throws(CheckpointError) -> [String] {
    // Tensors without bytes may share a place; the sort is stable, so they stay in the order of their names.
    let sorted = tensors.sorted {
      ($0.value.bytes.lowerBound, $0.value.bytes.upperBound)
        < ($1.value.bytes.lowerBound, $1.value.bytes.upperBound)
    }
    var covered = dataStart
    var previous = ""
    for (name, tensor) in sorted {
      let begin = tensor.bytes.lowerBound
      if begin < covered {
        throw CheckpointError(path, "tensors \(quoted(previous)) and \(quoted(name)) overlap")
      }
      if begin > covered {
        throw CheckpointError(
          path, "\(begin - covered) bytes before tensor \(quoted(name)) belong to no tensor")
      }
      covered = tensor.bytes.upperBound
      previous = name
    }
    if covered < end {
      throw CheckpointError(path, "\(end - covered) bytes at the end of the file belong to no tensor")
    }
    return sorted.map(\.key)
  }
}
