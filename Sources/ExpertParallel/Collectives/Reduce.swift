extension Communicator {
  /// Starts to reduce the ranks' values element by element; all ranks get the result.
  ///
  /// One rank, the owner, reduces each element in order of rank. So the bits depend neither on timing nor on the
  /// transport, and all ranks get the same bits. All ranks gather short lists and reduce them themselves, in the same
  /// order.
  ///
  /// - Parameters:
  ///   - buffer: `[count]`: the values of this rank; replaced by the result.
  ///   - type: the type of the values.
  ///   - count: the number of values, the same on all ranks.
  ///   - reduction: sum or maximum.
  ///   - activity: what the caller is doing, which errors name.
  /// - Throws: `CommunicationError`; `.invalid` for more values than the buffer holds. The request throws `.mismatch`
  ///   if another rank gives another number of values.
  package func startAllReduce<Element: Reducible>(
    _ buffer: MessageBuffer, of type: Element.Type, count: Int, _ reduction: Reduction,
    during activity: String
  ) throws(CommunicationError) -> Request {
    let stride = MemoryLayout<Element>.stride
    let (size, rank) = (size, rank)
    let bytes = count * stride
    guard count >= 0, bytes <= buffer.byteCount else {
      throw .invalid(
        operation: "all-reduce", during: activity,
        "\(count) values are outside a buffer of \(buffer.byteCount) bytes")
    }
    if bytes < 4096 || size < 3 {
      let all = MessageBuffer(byteCount: size * bytes)
      let rows = BlockLayout(rows: [Int](repeating: count, count: size), bytesPerRow: stride)
      return try group.request("all-reduce", during: activity) { plan in
        [
          { plan.exchange(0, from: buffer, .same(bytes, for: size), into: all, rows) },
          {
            reduce(all, rows: size, count: count, reduction, into: buffer, at: 0, as: type)
            return nil
          },
        ]
      }
    }
    let shares = (0..<size).map { share($0, of: count) }
    let mine = shares[rank]
    let parts = BlockLayout(rows: shares.map(\.count), bytesPerRow: stride)
    let columns = MessageBuffer(byteCount: size * mine.count * stride)
    let owned = BlockLayout(
      offsets: [Int](repeating: parts.offsets[rank], count: size),
      counts: [Int](repeating: parts.counts[rank], count: size))
    return try group.request("all-reduce", during: activity) { plan in
      [
        {
          plan.exchange(
            0, from: buffer, parts, into: columns,
            BlockLayout(rows: [Int](repeating: mine.count, count: size), bytesPerRow: stride))
        },
        {
          reduce(
            columns, rows: size, count: mine.count, reduction, into: buffer, at: mine.lowerBound, as: type)
          return plan.exchange(
            1, from: buffer, owned.only { $0 != rank }, into: buffer, parts.only { $0 != rank })
        },
      ]
    }
  }

  /// Starts to reduce the ranks' values element by element; each rank gets a part of the result.
  ///
  /// - Parameters:
  ///   - source: `[sum of counts]`: the values of this rank.
  ///   - counts: `[size]`: the number of values of the result that each rank gets, the same on all ranks.
  ///   - destination: `[counts[rank]]`: receives the part of this rank.
  ///   - type: the type of the values.
  ///   - reduction: sum or maximum, in order of rank.
  ///   - activity: what the caller is doing, which errors name.
  /// - Throws: `CommunicationError`; `.invalid` for counts that the buffers do not hold.
  package func startReduceScatter<Element: Reducible>(
    from source: MessageBuffer, counts: [Int], into destination: MessageBuffer, of type: Element.Type,
    _ reduction: Reduction, during activity: String
  ) throws(CommunicationError) -> Request {
    let stride = MemoryLayout<Element>.stride
    let (size, rank) = (size, rank)
    let parts = BlockLayout(rows: counts, bytesPerRow: stride)
    if let misfit = parts.misfit(what: "the list of values", size: size, buffer: source) {
      throw .invalid(operation: "reduce-scatter", during: activity, misfit)
    }
    let mine = counts[rank]
    guard mine * stride <= destination.byteCount else {
      throw .invalid(
        operation: "reduce-scatter", during: activity,
        "\(mine) values are outside a buffer of \(destination.byteCount) bytes")
    }
    let columns = MessageBuffer(byteCount: size * mine * stride)
    return try group.request("reduce-scatter", during: activity) { plan in
      [
        {
          plan.exchange(
            0, from: source, parts, into: columns,
            BlockLayout(rows: [Int](repeating: mine, count: size), bytesPerRow: stride))
        },
        {
          reduce(columns, rows: size, count: mine, reduction, into: destination, at: 0, as: type)
          return nil
        },
      ]
    }
  }

  /// Reduces the ranks' values element by element, in order of rank.
  ///
  /// - Returns: the result, with the same bits on all ranks.
  /// - Throws: `CommunicationError`; `.mismatch` if ranks give different numbers of values.
  public func allReduce<Element: Reducible>(
    _ values: [Element], _ reduction: Reduction, during activity: String
  ) throws(CommunicationError) -> [Element] {
    let buffer = MessageBuffer(values)
    try startAllReduce(buffer, of: Element.self, count: values.count, reduction, during: activity).wait()
    return buffer.elements(of: Element.self)
  }

  /// Reduces one value of each rank, in order of rank.
  ///
  /// - Throws: `CommunicationError`.
  public func allReduce<Element: Reducible>(
    _ value: Element, _ reduction: Reduction, during activity: String
  ) throws(CommunicationError) -> Element {
    try allReduce([value], reduction, during: activity)[0]
  }

  /// Reduces the ranks' values element by element, in order of rank; each rank gets a part of the result.
  ///
  /// - Parameters:
  ///   - values: `[sum of counts]`.
  ///   - counts: `[size]`: the number of values of the result that each rank gets.
  ///   - reduction: sum or maximum.
  ///   - activity: what the caller is doing, which errors name.
  /// - Returns: `[counts[rank]]`: the part of this rank.
  /// - Throws: `CommunicationError`.
  public func reduceScatter<Element: Reducible>(
    _ values: [Element], counts: [Int], _ reduction: Reduction, during activity: String
  ) throws(CommunicationError) -> [Element] {
    guard counts.count == size, counts.allSatisfy({ $0 >= 0 }), counts.reduce(0, +) == values.count else {
      throw .invalid(
        operation: "reduce-scatter", during: activity,
        "the counts \(counts) for \(size) ranks do not make \(values.count) values")
    }
    let destination = MessageBuffer(byteCount: counts[rank] * MemoryLayout<Element>.stride)
    try startReduceScatter(
      from: MessageBuffer(values), counts: counts, into: destination, of: Element.self, reduction,
      during: activity
    ).wait()
    return destination.elements(of: Element.self)
  }
}
