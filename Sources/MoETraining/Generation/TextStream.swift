/// Turns bytes into text as they come: a character when it is whole, a replacement where it cannot become one.
///
/// All pieces together are what decoding all bytes at once gives.
public struct TextStream {
  private var pending: [UInt8] = []

  /// An empty stream.
  public init() {}

  /// The text that is certain once `byte` was read.
  public mutating func append(_ byte: UInt8) -> String {
    var text = ""
    if byte & 0xC0 != 0x80 { text = finish() }
    pending.append(byte)
    if pending.count >= Self.length(pending[0]) { text += finish() }
    return text
  }

  /// The text of what is left.
  public mutating func finish() -> String {
    defer { pending = [] }
    return String(decoding: pending, as: UTF8.self)
  }

  /// Bytes of the character that begins with `byte`.
  private static func length(_ byte: UInt8) -> Int {
    switch byte {
    case 0xC2...0xDF: 2
    case 0xE0...0xEF: 3
    case 0xF0...0xF4: 4
    default: 1
    }
  }
}
