extension Communicator {
  /// Starts to copy the block of each rank to all ranks.
  ///
  /// - Parameters:
  ///   - source: this rank's block; all its bytes are sent.
  ///   - destination: receives the blocks of all ranks, including this one.
  ///   - received: `[size]`: where the block of each rank goes.
  ///   - activity: what the caller is doing, which errors name.
  /// - Throws: `CommunicationError`; `.invalid` for blocks outside a buffer. The request throws `.mismatch` if another
  ///   rank sends another number of bytes.
  package func startAllGather(
    from source: MessageBuffer, into destination: MessageBuffer, _ received: BlockLayout,
    during activity: String
  ) throws(CommunicationError) -> Request {
    try start(
      "all-gather", from: source, .same(source.byteCount, for: size), into: destination, received,
      during: activity)
  }

  /// Copies the values of each rank to all ranks; each rank has the same number of values.
  ///
  /// - Returns: `[size, n]`: the values in order of rank.
  /// - Throws: `CommunicationError`; `.mismatch` if ranks give different numbers of values.
  public func allGather<Element: BitwiseCopyable>(
    _ values: [Element], during activity: String
  ) throws(CommunicationError) -> [Element] {
    try allGather(values, counts: [Int](repeating: values.count, count: size), during: activity)
  }

  /// Copies the values of each rank to all ranks; every rank knows the number of values of each.
  ///
  /// - Parameters:
  ///   - values: `[counts[rank]]`: the values of this rank.
  ///   - counts: `[size]`: the number of values of each rank.
  ///   - activity: what the caller is doing, which errors name.
  /// - Returns: the values in order of rank.
  /// - Throws: `CommunicationError`; `.mismatch` if a rank gives another number of values.
  public func allGather<Element: BitwiseCopyable>(
    _ values: [Element], counts: [Int], during activity: String
  ) throws(CommunicationError) -> [Element] {
    guard counts.count == size, counts.allSatisfy({ $0 >= 0 }) else {
      throw .invalid(
        operation: "all-gather", during: activity, "the counts are \(counts), expected \(size) of at least 0")
    }
    let stride = MemoryLayout<Element>.stride
    let destination = MessageBuffer(byteCount: counts.reduce(0, +) * stride)
    try startAllGather(
      from: MessageBuffer(values), into: destination, BlockLayout(rows: counts, bytesPerRow: stride),
      during: activity
    ).wait()
    return destination.elements(of: Element.self)
  }

  /// Exchanges the numbers of values, and then copies the values of each rank to all ranks.
  ///
  /// - Returns: `[size]`: the values of each rank.
  /// - Throws: `CommunicationError`.
  public func allGatherLists<Element: BitwiseCopyable>(
    _ values: [Element], during activity: String
  ) throws(CommunicationError) -> [[Element]] {
    let counts = try allGather([values.count], during: activity)
    var rest = try allGather(values, counts: counts, during: activity)[...]
    return counts.map { count in
      defer { rest = rest.dropFirst(count) }
      return Array(rest.prefix(count))
    }
  }

  /// Copies the values of each rank to one rank; every rank knows the number of values of each.
  ///
  /// - Parameters:
  ///   - values: `[counts[rank]]`: the values of this rank.
  ///   - counts: `[size]`: the number of values of each rank.
  ///   - root: the rank that gets the values.
  ///   - activity: what the caller is doing, which errors name.
  /// - Returns: the values in order of rank on the root; nil on all other ranks.
  /// - Throws: `CommunicationError`; `.mismatch` if a rank gives another number of values.
  public func gather<Element: BitwiseCopyable>(
    _ values: [Element], counts: [Int], root: Int, during activity: String
  ) throws(CommunicationError) -> [Element]? {
    guard counts.count == size, counts.allSatisfy({ $0 >= 0 }), (0..<size).contains(root) else {
      throw .invalid(
        operation: "gather", during: activity,
        "the counts are \(counts) and the root \(root), expected \(size) of at least 0 and one of the ranks")
    }
    let stride = MemoryLayout<Element>.stride
    let (isRoot, source) = (rank == root, MessageBuffer(values))
    let all = BlockLayout(rows: isRoot ? counts : counts.map { _ in 0 }, bytesPerRow: stride)
    let destination = MessageBuffer(byteCount: all.counts.reduce(0, +))
    try start(
      "gather", from: source, .same(source.byteCount, for: size).only { $0 == root }, into: destination, all,
      during: activity
    ).wait()
    return isRoot ? destination.elements(of: Element.self) : nil
  }

  /// Waits until all ranks have entered the barrier.
  ///
  /// - Throws: `CommunicationError`.
  public func barrier(during activity: String) throws(CommunicationError) {
    let nothing = MessageBuffer(byteCount: 0)
    let blocks = BlockLayout.same(0, for: size)
    try start("barrier", from: nothing, blocks, into: nothing, blocks, during: activity).wait()
  }
}
