internal import MoE
internal import MoECore

extension TokenDispatch {
  /// Sends this rank's tokens to their experts, computes what came from all, and brings back the rows made of them.
  ///
  /// Slice by slice: while one is computed, the next ones are on their way here and the ones before on their way back.
  /// Only the first slice out and the last one back have no computation of the trip's own beside them; `before` and
  /// `after` are other work that fills these gaps.
  ///
  /// - Parameters:
  ///   - values: `[t, width]`.
  ///   - buffers: of ``TripBuffers/init(_:width:payload:in:returned:)``.
  ///   - before: work that needs nothing of the trip.
  ///   - compute: given a slice and all received tokens, of which those of the slice are there, gives its rows
  ///     `[rows, width]`; nil where nothing travels back.
  ///   - after: work that needs the computed slices.
  /// - Returns: what came back, `[returned rows, width]`, or nil.
  @discardableResult
  func trip(
    _ values: UnsafePointer<Float>, buffers: TripBuffers, communicator: any Communicator, step: String,
    execution: Execution, meter: OverlapMeter? = nil, before: () throws -> Void = {},
    compute: (Int, UnsafePointer<Float>) throws -> UnsafePointer<Float>?, after: () throws -> Void = {}
  ) throws -> UnsafePointer<Float>? {
    let width = buffers.width
    let places = communicator.group.reserve(2 * slices.count)
    var times = OverlapMeter.Times()
    let clock = ContinuousClock()

    let legs = OutwardLegs(self, buffers, communicator, step: step, firstPlace: places)
    let firstCount = slices[0].sentTokens.reduce(0, +)
    unsafe buffers.sentTokens.gather(values, tokens[..<firstCount], width: width, at: 0, execution)
    let departure = clock.now
    try legs.start(0)
    unsafe buffers.sentTokens.gather(values, tokens[firstCount...], width: width, at: firstCount, execution)
    try legs.startNext(after: 0)
    try Parallel.polling({ communicator.poll() }, during: before)

    var homeward: [Request] = []
    var (receivedTokens, sentRows, returnedRows) = (0, 0, 0)
    for (index, slice) in slices.enumerated() {
      try legs.wait(index)
      if index == 0 { times.exchange += departure.duration(to: clock.now) }
      let arrived = slice.receivedTokens.reduce(0, +)
      let start = clock.now
      let rows = unsafe try Parallel.polling({ communicator.poll() }) {
        buffers.receivedTokens.unpack(
          rows: receivedTokens..<receivedTokens + arrived, width: width, execution)
        let rows = unsafe try compute(index, buffers.receivedTokens.floats)
        if let rows = unsafe rows {
          unsafe buffers.sentRows.gather(rows, slice.rows[...], width: width, at: sentRows, execution)
        }
        return unsafe rows
      }
      times.computation += start.duration(to: clock.now)
      receivedTokens += arrived
      guard unsafe rows != nil else { continue }
      homeward.append(
        try communicator.start(
          "all-to-all", from: buffers.sentRows.travelling,
          buffers.sentRows.blocks(slice.receivedRows, from: sentRows, width: width),
          into: buffers.returnedRows.travelling,
          buffers.returnedRows.blocks(slice.sentRows, from: returnedRows, width: width), step: step,
          place: places + slices.count + index))
      sentRows += slice.rows.count
      returnedRows += slice.sentRows.reduce(0, +)
    }
    let start = clock.now
    try Parallel.polling({ communicator.poll() }, during: after)
    for request in homeward { try request.wait() }
    times.exchange += start.duration(to: clock.now)
    meter?.note(times, slices: slices.count, tokens: tokens.count)
    guard homeward.count == slices.count else { return nil }
    let returned = buffers.returnedRows
    returned.unpack(rows: 0..<returnedRows, width: width, execution)
    unsafe add(parts, of: returned.floats, width: width, execution)
    return unsafe UnsafePointer(returned.floats)
  }

  /// Sends a number of each returned row `[returned rows]` to the row's owner.
  ///
  /// - Returns: the numbers in the order of each slice's rows.
  func sendRowWeights(
    _ values: UnsafePointer<Float>, communicator: any Communicator, step: String
  ) throws(CommunicationError) -> [[Float]] {
    var values = unsafe Array(UnsafeBufferPointer(start: values, count: returnedRowCount))
    for part in parts { values[Int(part.row)] = values[Int(part.of)] }
    let stride = MemoryLayout<Float>.stride
    // They stand slice by slice, and travel in one message a rank.
    var list: [Float] = []
    list.reserveCapacity(returnedRowCount)
    let size = communicator.size
    var starts: [[Int]] = []
    var next = 0
    for slice in slices {
      starts.append(
        slice.sentRows.map { count in
          defer { next += count }
          return next
        })
    }
    for rank in 0..<size {
      for (slice, starts) in zip(slices, starts) {
        for row in starts[rank]..<starts[rank] + slice.sentRows[rank] { list.append(values[row]) }
      }
    }
    func blocks(_ counts: KeyPath<Slice, [Int]>) -> Blocks {
      Blocks(
        rows: (0..<size).map { rank in slices.reduce(0) { $0 + $1[keyPath: counts][rank] } },
        bytesPerRow: stride)
    }
    let incoming = MessageBuffer(byteCount: rowCount * stride)
    try communicator.startAllToAll(
      from: MessageBuffer(list), blocks(\.sentRows), into: incoming, blocks(\.receivedRows), step: step
    ).wait()
    var ordered = slices.map { [Float](repeating: 0, count: $0.rowCount) }
    var position = 0
    var taken = [Int](repeating: 0, count: slices.count)
    for source in 0..<size {
      for (index, slice) in slices.enumerated() {
        for choice in taken[index]..<taken[index] + slice.receivedRows[source] {
          ordered[index][Int(slice.rows[choice])] = unsafe incoming.floats[position]
          position += 1
        }
        taken[index] += slice.receivedRows[source]
      }
    }
    return ordered
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

/// The exchanges of a trip's tokens, one behind the other: together they would share the link, and the first slice would
/// be the later there.
private final class OutwardLegs {
  private let dispatch: TokenDispatch
  private let buffers: TripBuffers
  private let communicator: any Communicator
  private let step: String
  private let firstPlace: Int
  private var requests: [Request] = []
  private var (sent, received) = (0, 0)

  init(
    _ dispatch: TokenDispatch, _ buffers: TripBuffers, _ communicator: any Communicator, step: String,
    firstPlace: Int
  ) {
    self.dispatch = dispatch
    self.buffers = buffers
    self.communicator = communicator
    self.step = step
    self.firstPlace = firstPlace
  }

  func start(_ index: Int) throws(CommunicationError) {
    let (slice, width) = (dispatch.slices[index], buffers.width)
    requests.append(
      try communicator.start(
        "all-to-all", from: buffers.sentTokens.travelling,
        buffers.sentTokens.blocks(slice.sentTokens, from: sent, width: width),
        into: buffers.receivedTokens.travelling,
        buffers.receivedTokens.blocks(slice.receivedTokens, from: received, width: width), step: step,
        place: firstPlace + index))
    sent += slice.sentTokens.reduce(0, +)
    received += slice.receivedTokens.reduce(0, +)
  }

  /// Lets each following slice depart when the one before has arrived.
  func startNext(after index: Int) throws(CommunicationError) {
    guard index + 1 < dispatch.slices.count else { return }
    try requests[index].then { [self] () throws(CommunicationError) in
      try start(index + 1)
      try startNext(after: index + 1)
    }
  }

  func wait(_ index: Int) throws(CommunicationError) {
    // A slice departs with the arrival of the one before, which has been waited for, unless that failed.
    guard index < requests.count else { throw communicator.group.engine.failure! }
    try requests[index].wait()
  }
}
