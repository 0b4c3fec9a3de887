import Foundation
import MoECheckpoints
import Testing

/// The folder of checkpoints that transformers wrote; see `make_fixtures.py` there.
let fixtures = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent().appending(
  path: "Fixtures")

/// The names of the checkpoints.
let fixtureNames = try! FileManager.default.contentsOfDirectory(atPath: fixtures.path)
  .filter { FileManager.default.fileExists(atPath: fixtures.appending(path: "\($0)/config.json").path) }
  .sorted()

/// Calls `body` with a new folder, and removes it.
func withTemporaryFolder(_ body: (URL) throws -> Void) throws {
  let folder = FileManager.default.temporaryDirectory.appending(path: "moe-\(UUID())")
  try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
  defer { try? FileManager.default.removeItem(at: folder) }
  try body(folder)
}

/// The names of the files in a folder, sorted.
func names(in folder: URL) throws -> [String] {
  try FileManager.default.contentsOfDirectory(atPath: folder.path).sorted()
}

/// The instruction sets this CPU runs, as `moe info` says.
func supportedISAs() throws -> [String] {
  struct Report: Decodable { var supportedISAs: [String] }
  return try JSONDecoder().decode(Report.self, from: Data(moe("info", "--json").output.utf8)).supportedISAs
}

/// A tensor of a file that a test writes, of any type.
struct Tensor: Sendable {
  var type: String
  var shape: [Int]
  var bytes: [UInt8]

  init(type: String, shape: [Int], bytes: [UInt8]) {
    (self.type, self.shape, self.bytes) = (type, shape, bytes)
  }

  init(_ shape: [Int], _ values: [Float]) {
    self.init(type: "F32", shape: shape, bytes: values.flatMap { littleEndian($0.bitPattern, 4) })
  }

  /// Floats that differ from one another.
  init(_ shape: Int...) {
    self.init(shape, (0..<shape.reduce(1, *)).map { Float(($0 * 37 + 11) % 64) / 32 - 1 })
  }
}

/// The lowest `count` bytes of a number.
func littleEndian(_ value: some BinaryInteger, _ count: Int) -> [UInt8] {
  (0..<count).map { UInt8(truncatingIfNeeded: value >> ($0 * 8)) }
}

/// A safetensors file with this header, whatever it says, and these bytes of data.
func safetensors(header: String, _ data: [UInt8]) -> [UInt8] {
  littleEndian(header.utf8.count, 8) + Array(header.utf8) + data
}

/// A safetensors file with these tensors.
func safetensors(_ tensors: [String: Tensor]) -> [UInt8] {
  var (members, data) = ([String](), [UInt8]())
  for (name, tensor) in tensors.sorted(by: { $0.key < $1.key }) {
    let offsets = "[\(data.count),\(data.count + tensor.bytes.count)]"
    members.append(
      "\"\(name)\":{\"dtype\":\"\(tensor.type)\",\"shape\":\(tensor.shape),\"data_offsets\":\(offsets)}")
    data += tensor.bytes
  }
  return safetensors(header: "{\(members.joined(separator: ","))}", data)
}

/// √(Σ(a − b)²/Σb²).
func relativeRMS(_ a: [Float], _ b: [Float]) -> Double {
  guard a.count == b.count else { return .infinity }
  let difference = zip(a, b).reduce(0) { $0 + (Double($1.0) - Double($1.1)) * (Double($1.0) - Double($1.1)) }
  return (difference / b.reduce(0) { $0 + Double($1) * Double($1) }).squareRoot()
}
