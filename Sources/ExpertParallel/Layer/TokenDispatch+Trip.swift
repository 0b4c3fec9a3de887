internal import MoE
internal import MoECore

extension TokenDispatch {
  /// Sends this rank's tokens to their experts, computes what came from all, and brings back the rows made of them.
  ///
  /// Slice by slice: while one is computed, the next ones are on their way here and the ones before on their way back.
  /// Only the first slice out and the last one back have no computation of the trip's own beside them; `before` and
  /// `fill` are other work for these gaps, and for waits in between.
  ///
  /// - Parameters:
  ///   - values: `[t, width]`.
  ///   - buffers: of ``ExpertParallelWorkspace/tripBuffers(_:width:payload:)``.
  ///   - weighsSums: whether rows are multiplied by their weights where they are added up before they travel.
  ///   - before: work that needs nothing of the trip.
  ///   - compute: given a slice and all received tokens, of which those of the slice are there, gives its rows
  ///     `[rows, width]`, which stay until the trip is over where they are added up; nil where nothing travels back.
  ///   - fill: work that needs a slice computed, and the slices before it filled in.
  /// - Returns: what came back, `[returned rows, width]`, or nil.
  func trip(
    _ values: MemoryView<Float>, buffers: TripBuffers, communicator: any Communicator, step: String,
    execution: Execution, meter: OverlapMeter.Reader, weighsSums: Bool = true, before: () throws -> Void,
    compute: (Int, MemoryView<Float>) throws -> MemoryView<Float>?,
    fill: (Int) throws -> Void = { _ in }
  ) throws -> MemoryView<Float>? {
    let width = buffers.width
    let source = unsafe UnsafePointer(values.base)
    func poll() { communicator.poll() }
    var computation = Duration.zero
    func measure<Result>(_ body: () throws -> Result) rethrows -> Result {
      let start = ContinuousClock.now
      defer { computation += start.duration(to: .now) }
      return try Parallel.polling(poll, during: body)
    }
    let places = communicator.group.reserve(2 * slices.count)

    var outward: [Request] = []
    var departed = (sent: 0, received: 0)
    func depart(_ slice: Slice) throws(CommunicationError) {
      outward.append(
        try communicator.startRows(
          from: buffers.sentTokens, slice.sentTokens, at: departed.sent, into: buffers.receivedTokens,
          slice.receivedTokens, at: departed.received, width: width, counts: slice.tokenCounts, step: step,
          place: places + outward.count))
      departed.sent += slice.sentTokens.reduce(0, +)
      departed.received += slice.receivedTokens.reduce(0, +)
    }
    var homeward: [Request] = []
    // What is under way uses the buffers, so it is over before an error of a computation leaves.
    func finishing<Result>(_ body: () throws -> Result) throws -> Result {
      do {
        return try body()
      } catch {
        for request in outward + homeward { try? request.wait() }
        throw error
      }
    }
    let firstCount = slices[0].sentTokens.reduce(0, +)
    unsafe buffers.sentTokens.gather(source, tokens[..<firstCount], width: width, at: 0, execution)
    let departure = ContinuousClock.now
    try depart(slices[0])
    Parallel.polling(poll) {
      unsafe buffers.sentTokens.gather(
        source, tokens[firstCount...], width: width, at: firstCount, execution)
    }
    // They arrive in this order, as messages between two ranks do not overtake one another.
    for slice in slices.dropFirst() { try depart(slice) }
    try finishing { try Parallel.polling(poll, during: before) }

    var computed: [UnsafePointer<Float>] = unsafe []
    let sumWeights = weighsSums ? slices.map(\.weights) : nil
    var filled = 0
    var (receivedTokens, sentRows, returnedRows) = (0, 0, 0)
    for (index, slice) in slices.enumerated() {
      while filled < index, !outward[index].isComplete {
        try finishing { try measure { try fill(filled) } }
        filled += 1
      }
      try outward[index].wait()
      let arrived = slice.receivedTokens.reduce(0, +)
      let made = try finishing {
        try measure {
          buffers.receivedTokens.unpack(
            rows: receivedTokens..<receivedTokens + arrived, width: width, execution)
          return try compute(index, buffers.receivedTokens.view)
        }
      }
      receivedTokens += arrived
      guard let made else { continue }
      let rows = unsafe UnsafePointer(made.base)
      unsafe computed.append(rows)
      measure {
        switch returned {
        case .perChoice:
          unsafe buffers.sentRows.gather(rows, slice.rows[...], width: width, at: sentRows, execution)
        case .partialSums:
          unsafe buffers.sentRows.add(
            terms, slice.sums, of: computed, weights: sumWeights, width: width,
            at: sentRows, execution)
        }
      }
      homeward.append(
        try communicator.startRows(
          from: buffers.sentRows, slice.receivedRows, at: sentRows, into: buffers.returnedRows,
          slice.sentRows,
          at: returnedRows, width: width, counts: slice.rowCounts.map(\.transposed), step: step,
          place: places + slices.count + index))
      sentRows += slice.receivedRows.reduce(0, +)
      returnedRows += slice.sentRows.reduce(0, +)
    }
    try finishing { try measure { for index in filled..<slices.count { try fill(index) } } }
    for request in homeward { try request.wait() }
    meter.note(
      exchange: departure.duration(to: outward[0].completion!)
        * (1 + Double(sentRows) / Double(max(receivedTokens, 1))),
      computation: computation, slices: slices.count)
    guard homeward.count == slices.count else { return nil }
    let back = buffers.returnedRows
    back.unpack(rows: 0..<returnedRows, width: width, execution)
    unsafe add(parts, of: back.floats, width: width, execution)
    return back.view
  }

  /// Adds the rows that further ranks made of a choice to its first, in the order of the parts of F.
  private func add(
    _ parts: [(row: Int32, of: Int32)], of rows: UnsafeMutablePointer<Float>, width: Int,
    _ execution: Execution
  ) {
    guard !parts.isEmpty else { return }
    let block = 256
    Parallel.forEach((width + block - 1) / block, execution) { task in
      for part in parts {
        let (source, target) = unsafe (rows + Int(part.row) * width, rows + Int(part.of) * width)
        for column in task * block..<min((task + 1) * block, width) {
          unsafe target[column] += source[column]
        }
      }
    }
  }
}

extension Communicator {
  /// Sends rows to all ranks and receives theirs, by way of hosts where the counts of all are given.
  ///
  /// - Parameters:
  ///   - first: the first row that is sent, and the first that is received.
  ///   - counts: rows from each rank to each, `[size, size]`.
  fileprivate func startRows(
    from source: TravellingRows, _ sent: [Int], at first: Int, into destination: TravellingRows,
    _ received: [Int],
    at firstReceived: Int, width: Int, counts: [Int]?, step: String, place: Int
  ) throws(CommunicationError) -> Request {
    let (sent, received) = (
      source.blocks(sent, from: first, width: width),
      destination.blocks(received, from: firstReceived, width: width)
    )
    guard let counts else {
      return try start(
        "all-to-all", from: source.travelling, sent, into: destination.travelling, received, step: step,
        place: place)
    }
    let bytes = source.bytesPerRow(width: width)
    return try startHierarchicalAllToAll(
      from: source.travelling, sent, into: destination.travelling, received,
      counts: counts.map { $0 * bytes },
      hosts: group.hosts, step: step, place: place)
  }
}

extension [Int] {
  /// Of a square matrix, row by row.
  fileprivate var transposed: [Int] {
    let size = Int(Double(count).squareRoot().rounded())
    return (0..<count).map { self[$0 % size * size + $0 / size] }
  }
}
