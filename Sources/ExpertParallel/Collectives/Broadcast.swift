extension Communicator {
  /// Starts to bring the content of one rank's buffer into that of all.
  ///
  /// From 64 KiB on the root deals the content out, and all ranks gather it: no link carries it much more than twice,
  /// whatever the number of ranks.
  ///
  /// - Parameters:
  ///   - buffer: of the same size everywhere; overwritten on all ranks but the root.
  ///   - root: the rank whose content all get.
  ///   - activity: what the caller is doing, which errors name, such as "layer 3, forward".
  /// - Throws: `CommunicationError`, `.invalid` for a root that is no rank.
  public func startBroadcast(
    _ buffer: MessageBuffer, root: Int, during activity: String
  ) throws(CommunicationError) -> Request {
    guard (0..<size).contains(root) else {
      throw .invalid(operation: "broadcast", during: activity, "the root is \(root) of \(size) ranks")
    }
    let (rank, size, byteCount) = (rank, size, buffer.byteCount)
    let nothing = MessageBuffer(byteCount: 0)
    let none = Blocks.same(0, for: size)
    if byteCount < 65_536 {
      let whole = Blocks.same(byteCount, for: size)
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
    let parts = Blocks(rows: (0..<size).map { share($0, of: byteCount).count }, bytesPerRow: 1)
    let mine = Blocks(
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
          // The root has all, and every rank has its own part.
          plan.exchange(
            1, from: buffer, mine.only { $0 != rank && $0 != root }, into: buffer,
            rank == root ? none : parts.only { $0 != rank })
        },
      ]
    }
  }

  /// Brings the values of one rank to all.
  ///
  /// - Parameters:
  ///   - values: as many on all ranks; only the root's matter.
  ///   - root: the rank whose values all get.
  ///   - activity: what the caller is doing, which errors name, such as "layer 3, forward".
  /// - Returns: the root's values.
  /// - Throws: `CommunicationError`, `.mismatch` where ranks give different numbers of values.
  public func broadcast<Element: BitwiseCopyable>(
    _ values: [Element], root: Int, during activity: String
  ) throws(CommunicationError) -> [Element] {
    let buffer = MessageBuffer(values)
    try startBroadcast(buffer, root: root, during: activity).wait()
    return buffer.elements(of: Element.self)
  }

  /// The elements of a rank where `count` are dealt out as evenly as can be, in order of rank.
  func share(_ rank: Int, of count: Int) -> Range<Int> {
    let (each, rest) = count.quotientAndRemainder(dividingBy: size)
    let first = rank * each + min(rank, rest)
    return first..<(first + each + (rank < rest ? 1 : 0))
  }
}
