extension Communicator {
  /// Starts to copy the content of one rank's buffer to the buffers of all ranks.
  ///
  /// From 64 KiB on the root sends a part of the content to each rank, and all ranks gather the parts: no link carries
  /// much more than twice the content, for any number of ranks.
  ///
  /// - Parameters:
  ///   - buffer: memory of the same size on all ranks; overwritten on all ranks except the root.
  ///   - root: the rank with the content.
  ///   - activity: what the caller is doing, which errors name.
  /// - Throws: `CommunicationError`; `.invalid` if `root` is not a rank.
  package func startBroadcast(
    _ buffer: MessageBuffer, root: Int, during activity: String
  ) throws(CommunicationError) -> Request {
    guard (0..<size).contains(root) else {
      throw .invalid(
        operation: "broadcast", during: activity, "the root is rank \(root), expected one of \(size) ranks")
    }
    let (rank, size, byteCount) = (rank, size, buffer.byteCount)
    let nothing = MessageBuffer(byteCount: 0)
    let none = BlockLayout.same(0, for: size)
    if byteCount < 65_536 {
      let whole = BlockLayout.same(byteCount, for: size)
      return try group.request("broadcast", during: activity) { plan in
        [
          {
            rank == root
              ? plan.exchange(0, from: buffer, whole.only { $0 != root }, into: nothing, none)
              : plan.exchange(0, from: nothing, none, into: buffer, whole.only { $0 == root })
          }
        ]
      }
    }
    let parts = BlockLayout(rows: (0..<size).map { share($0, of: byteCount).count }, bytesPerRow: 1)
    let mine = BlockLayout(
      offsets: [Int](repeating: parts.offsets[rank], count: size),
      counts: [Int](repeating: parts.counts[rank], count: size))
    return try group.request("broadcast", during: activity) { plan in
      [
        {
          rank == root
            ? plan.exchange(0, from: buffer, parts.only { $0 != root }, into: nothing, none)
            : plan.exchange(0, from: nothing, none, into: buffer, mine.only { $0 == root })
        },
        {
          // The root has all parts, and every rank has its own.
          plan.exchange(
            1, from: buffer, mine.only { $0 != rank && $0 != root }, into: buffer,
            rank == root ? none : parts.only { $0 != rank })
        },
      ]
    }
  }

  /// Copies the values of one rank to all ranks.
  ///
  /// - Parameters:
  ///   - values: the same number of values on all ranks; only the root's are used.
  ///   - root: the rank with the values.
  ///   - activity: what the caller is doing, which errors name.
  /// - Returns: the root's values.
  /// - Throws: `CommunicationError`; `.mismatch` if ranks give different numbers of values.
  public func broadcast<Element: BitwiseCopyable>(
    _ values: [Element], root: Int, during activity: String
  ) throws(CommunicationError) -> [Element] {
    let buffer = MessageBuffer(values)
    try startBroadcast(buffer, root: root, during: activity).wait()
    return buffer.elements(of: Element.self)
  }

  /// Returns the part of a rank if `count` elements are divided as evenly as possible, in order of rank.
  func share(_ rank: Int, of count: Int) -> Range<Int> {
    let (each, rest) = count.quotientAndRemainder(dividingBy: size)
    let first = rank * each + min(rank, rest)
    return first..<(first + each + (rank < rest ? 1 : 0))
  }
}
