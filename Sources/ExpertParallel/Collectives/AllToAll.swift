extension Communicator {
  /// Starts to send each rank its block and to receive one from each.
  ///
  /// - Parameters:
  ///   - source: the memory that is sent; it must not be written to before the request has completed.
  ///   - sent: `[size]`: the block for each rank.
  ///   - destination: the memory that is received into; it must not be touched before the request has completed.
  ///   - received: `[size]`: where the block of each rank goes; its count is the number of bytes that the rank sends.
  ///   - activity: what the caller is doing, which errors name.
  /// - Throws: `CommunicationError`; `.invalid` for blocks outside a buffer. The request throws `.mismatch` if another
  ///   rank sends another number of bytes.
  public func startAllToAll(
    from source: MessageBuffer, _ sent: BlockLayout, into destination: MessageBuffer, _ received: BlockLayout,
    during activity: String
  ) throws(CommunicationError) -> Request {
    try start("all-to-all", from: source, sent, into: destination, received, during: activity)
  }

  /// Starts an operation of one exchange.
  ///
  /// - Parameters:
  ///   - operation: the name of the operation.
  ///   - source: the memory that is sent.
  ///   - sent: `[size]`: the block for each rank.
  ///   - destination: the memory that is received into.
  ///   - received: `[size]`: where the block of each rank goes.
  ///   - activity: what the caller is doing, which errors name.
  ///   - place: a reserved place; nil for the next place.
  func start(
    _ operation: String, from source: MessageBuffer, _ sent: BlockLayout, into destination: MessageBuffer,
    _ received: BlockLayout, during activity: String, at place: Int? = nil
  ) throws(CommunicationError) -> Request {
    if let misfit = sent.misfit(what: "the message", size: size, buffer: source)
      ?? received.misfit(what: "the message received", size: size, buffer: destination)
    {
      throw .invalid(operation: operation, during: activity, misfit)
    }
    return try group.request(operation, during: activity, at: place) { plan in
      [{ plan.exchange(0, from: source, sent, into: destination, received) }]
    }
  }

  /// Sends one row to each rank and receives one from each.
  ///
  /// - Parameters:
  ///   - values: `[size, n]`: a row for each rank, such as the number of tokens for each of its experts.
  ///   - activity: what the caller is doing, which errors name.
  /// - Returns: `[size, n]`: the row that each rank sent to this one.
  /// - Throws: `CommunicationError`.
  public func exchange<Element: BitwiseCopyable>(
    _ values: [Element], during activity: String
  ) throws(CommunicationError) -> [Element] {
    guard values.count.isMultiple(of: size) else {
      throw .invalid(
        operation: "exchange", during: activity,
        "\(values.count) values cannot be dealt to \(size) ranks evenly")
    }
    let source = MessageBuffer(values)
    let destination = MessageBuffer(byteCount: source.byteCount)
    let blocks = BlockLayout(
      rows: [Int](repeating: values.count / size, count: size), bytesPerRow: MemoryLayout<Element>.stride)
    try start("exchange", from: source, blocks, into: destination, blocks, during: activity).wait()
    return destination.elements(of: Element.self)
  }

  /// Exchanges counts, and then sends rows to each rank and receives rows from each.
  ///
  /// - Parameters:
  ///   - rows: `[sum of counts, rowSize]`: the rows in order of the rank that gets them.
  ///   - counts: `[size]`: the number of rows for each rank.
  ///   - rowSize: the number of elements of a row.
  ///   - activity: what the caller is doing, which errors name.
  /// - Returns: the rows received, in order of the rank that sent them, and the number of rows of each rank.
  /// - Throws: `CommunicationError`; `.invalid` if rows and counts do not agree.
  public func allToAll<Element: BitwiseCopyable>(
    _ rows: [Element], counts: [Int], rowSize: Int = 1, during activity: String
  ) throws(CommunicationError) -> (rows: [Element], counts: [Int]) {
    guard counts.count == size, counts.allSatisfy({ $0 >= 0 }), counts.reduce(0, +) * rowSize == rows.count
    else {
      throw .invalid(
        operation: "all-to-all", during: activity,
        "the counts \(counts) for \(size) ranks of rows of \(rowSize) do not make \(rows.count) elements")
    }
    let incoming = try exchange(counts, during: activity)
    let bytesPerRow = rowSize * MemoryLayout<Element>.stride
    let destination = MessageBuffer(byteCount: incoming.reduce(0, +) * bytesPerRow)
    try startAllToAll(
      from: MessageBuffer(rows), BlockLayout(rows: counts, bytesPerRow: bytesPerRow), into: destination,
      BlockLayout(rows: incoming, bytesPerRow: bytesPerRow), during: activity
    ).wait()
    return (destination.elements(of: Element.self), incoming)
  }
}
