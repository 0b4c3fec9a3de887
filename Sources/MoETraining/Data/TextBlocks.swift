/// A piece of a file.
struct TextBlock {
  var file: Int
  var range: Range<Int>
  var hash: UInt64
}

/// Cuts texts into blocks, some of which are held out.
enum TextBlocks {
  /// The size in bytes from which a block ends at the next end of a line.
  static let size = 2048
  /// One of this many blocks is held out.
  static let share = 20

  /// Returns blocks of about 2 KiB that end with a line. Where a line is longer than a block, they end with a
  /// character.
  static func cut(_ bytes: [UInt8]) -> [Range<Int>] {
    var blocks: [Range<Int>] = []
    var start = 0
    while start < bytes.count {
      var end = min(start + size, bytes.count)
      let limit = min(start + 2 * size, bytes.count)
      while end < limit, bytes[end - 1] != UInt8(ascii: "\n") { end += 1 }
      while end < bytes.count, bytes[end] & 0xC0 == 0x80 { end += 1 }
      blocks.append(start..<end)
      start = end
    }
    return blocks
  }

  /// Returns for each of a label's blocks whether it is held out. One block in twenty is, but at least one if there
  /// are two: those whose content has the lowest hashes. Neither a seed nor the order of the files changes the
  /// choice.
  static func heldOut(_ blocks: [TextBlock]) -> [Bool] {
    let count = blocks.count < 2 ? 0 : max(1, blocks.count / share)
    let chosen = blocks.indices.sorted { (blocks[$0].hash, $0) < (blocks[$1].hash, $1) }.prefix(count)
    var held = Array(repeating: false, count: blocks.count)
    for index in chosen { held[index] = true }
    return held
  }
}

/// Returns a hash that is equal on every machine: FNV-1a (Fowler, Noll and Vo) with its bits mixed.
func contentHash(_ bytes: ArraySlice<UInt8>) -> UInt64 {
  var hash: UInt64 = 0xcbf2_9ce4_8422_2325
  for byte in bytes { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
  hash = (hash ^ (hash >> 30)) &* 0xBF58_476D_1CE4_E5B9
  hash = (hash ^ (hash >> 27)) &* 0x94D0_49BB_1331_11EB
  return hash ^ (hash >> 31)
}
