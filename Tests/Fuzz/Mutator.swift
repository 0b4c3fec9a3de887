import MoECore

/// Makes damaged checkpoints and documents from good ones.
struct Mutator {
  /// Numbers that readers tend to trust, and values that are not numbers.
  static let numbers = [
    "0", "-1", "1", "2", "3", "-0", "NaN", "Infinity", "1e308", "-1e308", "9007199254740993", "2147483647",
    "2147483648", "4611686018427387904", "\"\u{0663}\"", "1e400", "-1e400", "0.5", "1e-320",
    "1152921504606846976", "4294967296",
    "4294967295",
    "9223372036854775807", "-9223372036854775808", "18446744073709551615", "16777216", "65536", "null",
    "true",
    "\"\"", "[]", "{}", "[[[[]]]]",
  ]

  var generator: SeededGenerator

  init(seed: UInt64) { generator = SeededGenerator(seed: seed) }

  /// One of the seeds with one to three wounds in one of its files.
  mutating func damage(_ seeds: [Seed]) -> [String: [UInt8]] {
    var files = seeds.randomElement(using: &generator)!.files
    let name = files.keys.sorted().randomElement(using: &generator)!
    let other = seeds.randomElement(using: &generator)!.files.sorted { $0.key < $1.key }.randomElement(
      using: &generator)!.value
    var bytes = files[name]!
    for _ in 0..<Int.random(in: 1...3, using: &generator) {
      if name.hasSuffix(".json") || bytes.count < 8 {
        wound(&bytes, isText: true, other)
      } else if Bool.random(using: &generator) {
        woundHeader(&bytes, other)
      } else {
        wound(&bytes, isText: false, other)
      }
    }
    files[name] = bytes
    if Int.random(in: 0..<200, using: &generator) == 0 { files[name] = nil }
    return files
  }

  /// A document with one to three wounds, most of them a number in the place of another.
  mutating func damage(text: [UInt8], other: [UInt8]) -> [UInt8] {
    var bytes = text
    for _ in 0..<Int.random(in: 1...3, using: &generator) where !bytes.isEmpty {
      if Int.random(in: 0..<4, using: &generator) > 0 {
        replaceNumber(&bytes)
      } else {
        wound(&bytes, isText: true, other)
      }
    }
    return bytes
  }

  /// Damages the JSON text of a safetensors file and mostly mends the length before it, so that the damage is
  /// what the reader meets.
  private mutating func woundHeader(_ bytes: inout [UInt8], _ other: [UInt8]) {
    let length = bytes[0..<8].reversed().reduce(0 as UInt64) { $0 << 8 | UInt64($1) }
    guard length <= bytes.count - 8 else { return }
    var text = Array(bytes[8..<8 + Int(length)])
    wound(&text, isText: true, other)
    bytes.replaceSubrange(8..<8 + Int(length), with: text)
    if Int.random(in: 0..<8, using: &generator) > 0 { setLength(&bytes, UInt64(text.count)) }
  }

  private mutating func wound(_ bytes: inout [UInt8], isText: Bool, _ other: [UInt8]) {
    guard !bytes.isEmpty else { return }
    switch Int.random(in: 0..<7, using: &generator) {
    case 0: bytes[position(bytes)] ^= 1 << UInt8.random(in: 0..<8, using: &generator)
    case 1: bytes[position(bytes)] = .random(in: 0...255, using: &generator)
    case 2: bytes.removeSubrange(position(bytes)...)
    case 3: bytes.removeSubrange(piece(bytes))
    case 4: bytes.insert(contentsOf: bytes[piece(bytes)], at: position(bytes))
    case 5:
      if other.isEmpty { return }
      bytes.insert(contentsOf: other[piece(other)], at: position(bytes))
    default:
      if isText {
        replaceNumber(&bytes)
      } else if bytes.count >= 8 {
        setLength(&bytes, lengths.randomElement(using: &generator)!)
      }
    }
  }

  private var lengths: [UInt64] { [0, 1, 7, 8, 1 << 20, 1 << 31, 1 << 32, 1 << 60, 1 << 63, .max, .max - 7] }

  private func setLength(_ bytes: inout [UInt8], _ length: UInt64) {
    for index in 0..<8 { bytes[index] = UInt8(truncatingIfNeeded: length >> (index * 8)) }
  }

  /// Puts another value in the place of the first number after a random position.
  private mutating func replaceNumber(_ bytes: inout [UInt8]) {
    func isDigit(_ byte: UInt8) -> Bool { (0x30...0x39).contains(byte) }
    guard let first = bytes[position(bytes)...].firstIndex(where: isDigit) else { return }
    let end = bytes[first...].firstIndex { !isDigit($0) } ?? bytes.count
    bytes.replaceSubrange(first..<end, with: Array(Self.numbers.randomElement(using: &generator)!.utf8))
  }

  private mutating func position(_ bytes: [UInt8]) -> Int { .random(in: 0..<bytes.count, using: &generator) }

  private mutating func piece(_ bytes: [UInt8]) -> Range<Int> {
    let start = position(bytes)
    return start..<min(bytes.count, start + .random(in: 1...64, using: &generator))
  }
}
