/// Turns bytes into text as they arrive. A character is returned once it is whole, and a replacement character where
/// bytes cannot become a character.
///
/// All pieces together are equal to the text that decoding all bytes at once gives.
public struct TextStream {
  private var pending: [UInt8] = []

  /// Makes an empty stream.
  public init() {}

  /// Adds a byte, and returns the text that is now certain.
  public mutating func append(_ byte: UInt8) -> String {
    var text = ""
    if byte & 0xC0 != 0x80 { text = finish() }
    pending.append(byte)
    if pending.count >= Self.length(pending[0]) { text += finish() }
    return text
  }

  /// Returns the text of the remaining bytes.
  public mutating func finish() -> String {
    defer { pending = [] }
    return String(decoding: pending, as: UTF8.self)
  }

  /// Returns the number of bytes of a character that begins with `byte`.
  private static func length(_ byte: UInt8) -> Int {
    switch byte {
    case 0xC2...0xDF: 2
    case 0xE0...0xEF: 3
    case 0xF0...0xF4: 4
    default: 1
    }
  }
}
