public import MoECore

/// Collects tensors and writes them as one safetensors file.
///
/// The bytes depend on the tensors, their order and the metadata alone.
public struct SafetensorsWriter: Sendable {
  private enum Content {
    case floats([Float])
    case matrix(Matrix)
    case integers([Int32])
  }

  private struct Entry {
    var name: String
    var shape: [Int]
    var content: Content
  }

  private var entries: [Entry] = []
  private var names = NamedValues<Void>()
  /// Strings that the file carries as `__metadata__`.
  public var metadata: NamedValues<String>

  /// Makes a writer without tensors.
  public init(metadata: NamedValues<String> = [:]) { self.metadata = metadata }

  /// Adds an F32 tensor of any shape.
  ///
  /// - Throws: ``CheckpointError`` where the name is taken or the shape is not that of `values`.
  public mutating func add(_ name: String, _ values: [Float], shape: [Int]) throws(CheckpointError) {
    try add(name, count: values.count, shape, .floats(values))
  }

  /// Adds a matrix `[rows, columns]` as an F32 tensor.
  ///
  /// - Throws: ``CheckpointError`` where the name is taken.
  public mutating func add(_ name: String, _ matrix: Matrix) throws(CheckpointError) {
    try add(name, count: matrix.count, matrix.shape, .matrix(matrix))
  }

  /// Adds an I32 tensor of any shape.
  ///
  /// - Throws: ``CheckpointError`` where the name is taken or the shape is not that of `values`.
  public mutating func add(_ name: String, _ values: [Int32], shape: [Int]) throws(CheckpointError) {
    try add(name, count: values.count, shape, .integers(values))
  }

  private mutating func add(
    _ name: String, count: Int, _ shape: [Int], _ content: Content
  ) throws(CheckpointError) {
    var product = 1
    for extent in shape {
      let (next, overflow) = product.multipliedReportingOverflow(by: extent)
      product = overflow || extent < 0 ? -1 : next
      if product < 0 { break }
    }
    guard product == count else {
      throw CheckpointError(
        "safetensors writer", "tensor \(quoted(name)) has \(count) elements, expected those of shape \(shape)"
      )
    }
    guard name != "__metadata__", names.updateValue((), forKey: name) == nil else {
      throw CheckpointError("safetensors writer", "the tensor name \(quoted(name)) is already taken")
    }
    entries.append(Entry(name: name, shape: shape, content: content))
  }

  /// Writes the file. Afterwards `path` holds all of the new file or, after a failure, what it held before, also where
  /// the machine stops in between: the bytes go to a temporary file beside it, which is flushed and renamed.
  ///
  /// - Throws: ``CheckpointError`` naming the step that failed.
  public func write(to path: String) throws(CheckpointError) { try write(to: path) { _ in } }

  /// Writes the file as ``write(to:)`` does, and calls `observe` with every piece of its bytes in order.
  package func write(to path: String, _ observe: ([UInt8]) -> Void) throws(CheckpointError) {
    try AtomicFile.write(to: path) { (file) throws(CheckpointError) in
      try forEachPiece { (piece) throws(CheckpointError) in
        observe(piece)
        try file.append(piece)
      }
    }
  }

  /// Checks that a file can be written to `path`, before hours of computing end with an error.
  ///
  /// - Throws: ``CheckpointError`` where the path is a folder, or the folder it is in cannot be written.
  public static func check(path: String) throws(CheckpointError) { try AtomicFile.check(path) }

  /// Returns the bytes of the whole file.
  public func bytes() -> [UInt8] {
    var bytes: [UInt8] = []
    forEachPiece { bytes += $0 }
    return bytes
  }

  /// Returns the length and the JSON text, which is padded with spaces to a multiple of eight.
  private func header() -> [UInt8] {
    var members: [String] = []
    if !metadata.isEmpty {
      let strings = metadata.map {
        "\(jsonString($0.key)):\(jsonString($0.value))"
      }
      members.append("\"__metadata__\":{\(strings.joined(separator: ","))}")
    }
    var begin = 0
    for entry in entries {
      let end = begin + 4 * entry.shape.reduce(1, *)
      let type: ElementType = if case .integers = entry.content { .int32 } else { .float32 }
      let shape = entry.shape.map(String.init).joined(separator: ",")
      members.append(
        "\(jsonString(entry.name)):{\"dtype\":\"\(type.rawValue)\",\"shape\":[\(shape)],"
          + "\"data_offsets\":[\(begin),\(end)]}")
      begin = end
    }
    var text = Array("{\(members.joined(separator: ","))}".utf8)
    text += Array(repeating: UInt8(ascii: " "), count: (8 - text.count % 8) % 8)
    return (0..<8).map { UInt8(truncatingIfNeeded: text.count >> ($0 * 8)) } + text
  }

  /// Calls `body` with the bytes of the file, one piece per call.
  package func forEachPiece<Failure: Error>(
    _ body: ([UInt8]) throws(Failure) -> Void
  ) throws(Failure) {
    try body(header())
    for entry in entries { try Self.forEachPiece(of: entry, body) }
  }

  /// Calls `body` with a tensor's bytes, one piece per call.
  private static func forEachPiece<Failure: Error>(
    of entry: Entry, _ body: ([UInt8]) throws(Failure) -> Void
  ) throws(Failure) {
    let count = entry.shape.reduce(1, *)
    let size = 1 << 16
    for start in stride(from: 0, to: count, by: size) {
      let range = start..<min(start + size, count)
      let piece: [UInt8] =
        switch entry.content {
        case .floats(let values): littleEndian(values[range].lazy.map(\.bitPattern))
        case .integers(let values): littleEndian(values[range].lazy.map(UInt32.init(bitPattern:)))
        case .matrix(let matrix):
          unsafe matrix.withUnsafeBufferPointer { unsafe littleEndian($0[range].map(\.bitPattern)) }
        }
      try body(piece)
    }
  }

  private static func littleEndian(_ words: some Collection<UInt32>) -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(words.count * 4)
    for word in words {
      for shift in stride(from: 0 as UInt32, to: 32, by: 8) {
        bytes.append(UInt8(truncatingIfNeeded: word >> shift))
      }
    }
    return bytes
  }
}

/// Returns `text` as a JSON string, quotes included.
package func jsonString(_ text: String) -> String {
  var json = "\""
  for scalar in text.unicodeScalars {
    switch scalar {
    case "\"", "\\": json += "\\\(scalar)"
    case "\u{0}"..<" ":
      let digits = String(scalar.value, radix: 16)
      json += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
    default: json.unicodeScalars.append(scalar)
    }
  }
  return json + "\""
}
