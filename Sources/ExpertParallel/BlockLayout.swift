/// Where in a buffer the bytes for each rank lie, or those from each rank.
public struct Blocks: Sendable, Equatable {
  /// The first byte of each rank's block, `[size]`.
  public let offsets: [Int]
  /// The number of bytes of each rank's block, `[size]`.
  public let counts: [Int]

  /// Blocks one behind the other in order of rank.
  ///
  /// - Parameters:
  ///   - rows: the number of rows for each rank, `[size]`.
  ///   - bytesPerRow: the bytes of a row.
  public init(rows: [Int], bytesPerRow: Int) {
    counts = rows.map { $0 * bytesPerRow }
    var offset = 0
    offsets = counts.map { count in
      defer { offset += count }
      return offset
    }
  }

  /// Blocks anywhere, in bytes. Blocks that are sent may overlap, those that are received may not.
  public init(offsets: [Int], counts: [Int]) {
    self.offsets = offsets
    self.counts = counts
  }

  /// The same bytes for each of so many ranks.
  static func same(_ bytes: Int, for ranks: Int) -> Blocks {
    Blocks(offsets: [Int](repeating: 0, count: ranks), counts: [Int](repeating: bytes, count: ranks))
  }

  /// Only the blocks of some ranks; nothing for the others.
  func only(_ isIncluded: (Int) -> Bool) -> Blocks {
    Blocks(offsets: offsets, counts: counts.indices.map { isIncluded($0) ? counts[$0] : 0 })
  }

  /// What does not fit a communicator or a buffer, in words; nil where all does.
  func misfit(what: String, size: Int, buffer: MessageBuffer) -> String? {
    guard counts.count == size, offsets.count == size else {
      return
        "\(what) names blocks of \(counts.count) ranks at \(offsets.count) offsets, expected \(size) of both"
    }
    for rank in 0..<size {
      let (offset, count) = (offsets[rank], counts[rank])
      guard count >= 0, offset >= 0, offset <= buffer.byteCount, count <= buffer.byteCount - offset else {
        return
          "\(what) has \(count) bytes at \(offset) for rank \(rank), outside a buffer of \(buffer.byteCount)"
      }
    }
    return nil
  }
}
