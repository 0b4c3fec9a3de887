/// The places in a buffer of the blocks of bytes for each rank, or from each rank: MPI's counts and displacements.
public struct BlockLayout: Sendable, Equatable {
  /// `[size]`: the first byte of each rank's block.
  public let offsets: [Int]
  /// `[size]`: the number of bytes of each rank's block.
  public let counts: [Int]

  /// Lays out blocks one after another in order of rank.
  ///
  /// - Parameters:
  ///   - rows: `[size]`: the number of rows for each rank.
  ///   - bytesPerRow: the size of a row in bytes.
  ///   - first: the first byte of the first block.
  public init(rows: [Int], bytesPerRow: Int, from first: Int = 0) {
    counts = rows.map { $0 * bytesPerRow }
    var offset = first
    offsets = counts.map { count in
      defer { offset += count }
      return offset
    }
  }

  /// Lays out blocks anywhere, in bytes. Blocks that are sent may overlap; blocks that are received must not.
  public init(offsets: [Int], counts: [Int]) {
    self.offsets = offsets
    self.counts = counts
  }

  /// Returns the layout in which each of `ranks` ranks has the first `bytes` bytes.
  static func same(_ bytes: Int, for ranks: Int) -> BlockLayout {
    BlockLayout(offsets: [Int](repeating: 0, count: ranks), counts: [Int](repeating: bytes, count: ranks))
  }

  /// Returns the layout with the blocks of some ranks, and empty blocks for all others.
  func only(_ isIncluded: (Int) -> Bool) -> BlockLayout {
    BlockLayout(offsets: offsets, counts: counts.indices.map { isIncluded($0) ? counts[$0] : 0 })
  }

  /// Returns a sentence about a block that does not fit a communicator or a buffer; nil if all fit.
  ///
  /// - Parameters:
  ///   - what: the beginning of the sentence.
  ///   - size: the number of ranks of the communicator.
  ///   - buffer: the memory of the blocks.
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
