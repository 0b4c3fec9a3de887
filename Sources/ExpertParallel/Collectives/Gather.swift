extension Communicator {
  /// Starts to bring the block of each rank to all ranks.
  ///
  /// - Parameters:
  ///   - source: this rank's block; all its bytes are sent.
  ///   - destination: receives the blocks of all ranks, this one's too.
  ///   - received: where the block of each rank goes, `[size]`.
  ///   - activity: what the caller is doing, which errors name, such as "layer 3, forward".
  /// - Throws: `CommunicationError`, `.invalid` for blocks outside a buffer. A count that is not what the other rank
  ///   sends is a `.mismatch` of the request.
  public func startAllGather(
    from source: MessageBuffer, into destination: MessageBuffer, _ received: Blocks, during activity: String
  ) throws(CommunicationError) -> Request {
    try start(
      "all-gather", from: source, .same(source.byteCount, for: size), into: destination, received, during: activity)
  }

  /// Brings the same number of values of each rank to all ranks.
  ///
  /// - Returns: the values in order of rank, `[size, n]`.
  /// - Throws: `CommunicationError`, `.mismatch` where ranks give different numbers of values.
  public func allGather<Element: BitwiseCopyable>(
    _ values: [Element], during activity: String
  ) throws(CommunicationError) -> [Element] {
    try allGather(values, counts: [Int](repeating: values.count, count: size), during: activity)
  }

  /// Brings the values of each rank to all ranks, where all know how many each has.
  ///
  /// - Parameters:
  ///   - values: this rank's, `[counts[rank]]`.
  ///   - counts: how many each rank has, `[size]`.
  ///   - activity: what the caller is doing, which errors name, such as "layer 3, forward".
  /// - Returns: the values in order of rank.
  /// - Throws: `CommunicationError`, `.mismatch` where a rank gives another number.
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
      from: MessageBuffer(values), into: destination, Blocks(rows: counts, bytesPerRow: stride), during: activity
    ).wait()
    return destination.elements(of: Element.self)
  }

  /// Brings the values of each rank to all ranks, however many each has; the counts go first.
  ///
  /// - Returns: the values of each rank, `[size]` lists.
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

  /// Brings the values of each rank to one, where all know how many each has.
  ///
  /// - Parameters:
  ///   - values: this rank's, `[counts[rank]]`.
  ///   - counts: how many each rank has, `[size]`.
  ///   - root: the rank that gets them.
  ///   - activity: what the caller is doing, which errors name, such as "layer 3, forward".
  /// - Returns: the values in order of rank on the root, nil elsewhere.
  /// - Throws: `CommunicationError`, `.mismatch` where a rank gives another number.
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
    let all = Blocks(rows: isRoot ? counts : counts.map { _ in 0 }, bytesPerRow: stride)
    let destination = MessageBuffer(byteCount: all.counts.reduce(0, +))
    try start(
      "gather", from: source, .same(source.byteCount, for: size).only { $0 == root }, into: destination, all,
      during: activity
    ).wait()
    return isRoot ? destination.elements(of: Element.self) : nil
  }

  /// Returns when all ranks have entered it.
  ///
  /// - Throws: `CommunicationError`.
  public func barrier(during activity: String) throws(CommunicationError) {
    let nothing = MessageBuffer(byteCount: 0)
    let blocks = Blocks.same(0, for: size)
    try start("barrier", from: nothing, blocks, into: nothing, blocks, during: activity).wait()
  }
}
