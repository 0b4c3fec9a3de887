extension Communicator {
  /// Starts to send each rank its block and to receive one from each.
  ///
  /// - Parameters:
  ///   - source: what is sent; not to be written to before the request has completed.
  ///   - sent: the block for each rank, `[size]`.
  ///   - destination: what is received into; not to be touched before the request has completed.
  ///   - received: where the block of each rank goes, `[size]`; its count is what that rank sends.
  ///   - activity: what the caller is doing, which errors name, such as "layer 3, forward".
  /// - Throws: `CommunicationError`, `.invalid` for blocks outside a buffer. A count that is not what the other rank
  ///   sends is a `.mismatch` of the request.
  public func startAllToAll(
    from source: MessageBuffer, _ sent: Blocks, into destination: MessageBuffer, _ received: Blocks,
    during activity: String
  ) throws(CommunicationError) -> Request {
    try start("all-to-all", from: source, sent, into: destination, received, during: activity)
  }

  /// One exchange under the name of an operation, at a place that was reserved where one is given.
  func start(
    _ operation: String, from source: MessageBuffer, _ sent: Blocks, into destination: MessageBuffer,
    _ received: Blocks, during activity: String, place: Int? = nil
  ) throws(CommunicationError) -> Request {
    if let misfit = sent.misfit(what: "what is sent", size: size, buffer: source)
      ?? received.misfit(what: "what is received", size: size, buffer: destination)
    {
      throw .invalid(operation: operation, during: activity, misfit)
    }
    return try group.request(operation, during: activity, place: place) { plan in
      [{ plan.exchange(0, from: source, sent, into: destination, received) }]
    }
  }

  /// Sends one row to each rank and receives one from each.
  ///
  /// - Parameters:
  ///   - values: rows in order of rank, `[size, n]`, such as how many tokens each rank is to get for each expert.
  ///   - activity: what the caller is doing, which errors name, such as "layer 3, forward".
  /// - Returns: what the ranks sent here, `[size, n]`.
  /// - Throws: `CommunicationError`.
  public func exchange<Element: BitwiseCopyable>(
    _ values: [Element], during activity: String
  ) throws(CommunicationError) -> [Element] {
    guard values.count.isMultiple(of: size) else {
      throw .invalid(
        operation: "exchange", during: activity, "\(values.count) values cannot be dealt to \(size) ranks evenly")
    }
    let source = MessageBuffer(values)
    let destination = MessageBuffer(byteCount: source.byteCount)
    let blocks = Blocks(
      rows: [Int](repeating: values.count / size, count: size), bytesPerRow: MemoryLayout<Element>.stride)
    try start("exchange", from: source, blocks, into: destination, blocks, during: activity).wait()
    return destination.elements(of: Element.self)
  }

  /// Sends each rank its rows and receives those of each, once the counts have been exchanged.
  ///
  /// - Parameters:
  ///   - rows: row after row in order of the rank it is for, `[sum of counts, rowSize]`.
  ///   - counts: the number of rows for each rank, `[size]`.
  ///   - rowSize: the elements of a row.
  ///   - activity: what the caller is doing, which errors name, such as "layer 3, forward".
  /// - Returns: the rows received in order of the rank they are from, and the number of rows of each.
  /// - Throws: `CommunicationError`, `.invalid` where rows and counts do not agree.
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
      from: MessageBuffer(rows), Blocks(rows: counts, bytesPerRow: bytesPerRow), into: destination,
      Blocks(rows: incoming, bytesPerRow: bytesPerRow), during: activity
    ).wait()
    return (destination.elements(of: Element.self), incoming)
  }
}
