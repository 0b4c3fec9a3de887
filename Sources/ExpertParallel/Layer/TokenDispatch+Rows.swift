internal import MoE
internal import MoECore

extension TokenDispatch {
  /// Sends this rank's rows `[t, width]` of tokens to the ranks of their experts.
  ///
  /// - Returns: what came, `[received tokens, width]`.
  func sendTokens(
    _ values: UnsafePointer<Float>, width: Int, communicator: any Communicator, step: String,
    execution: Execution, outgoing: inout ExchangeBuffer, received: inout ExchangeBuffer
  ) throws(CommunicationError) -> MessageBuffer {
    let source = outgoing.reserve(rows: tokens.count, width: width)
    unsafe gather(values, tokens, width: width, into: source.floats, execution)
    return try Self.exchange(
      source, sentTokens, receivedTokens, width: width, communicator, step, into: &received)
  }

  /// Returns what this rank's experts made of the choices, `[M, width]`, to where these came from.
  ///
  /// - Returns: what came back, `[returned rows, width]`.
  func returnRows(
    _ values: UnsafePointer<Float>, width: Int, communicator: any Communicator, step: String,
    execution: Execution, outgoing: inout ExchangeBuffer, returned: inout ExchangeBuffer
  ) throws(CommunicationError) -> MessageBuffer {
    let source = outgoing.reserve(rows: rows.count, width: width)
    unsafe gather(values, rows, width: width, into: source.floats, execution)
    return try Self.exchange(
      source, receivedRows, sentRows, width: width, communicator, step, into: &returned)
  }

  /// Sends a number of each returned row `[returned rows]` to the row's owner.
  ///
  /// - Returns: the numbers in the order of the owner's rows, `[M]`.
  func sendRowWeights(
    _ values: UnsafePointer<Float>, communicator: any Communicator, step: String
  ) throws(CommunicationError) -> [Float] {
    let stride = MemoryLayout<Float>.stride
    let source = MessageBuffer(unsafe Array(UnsafeBufferPointer(start: values, count: returnedRowCount)))
    let incoming = MessageBuffer(byteCount: rows.count * stride)
    try communicator.startAllToAll(
      from: source, Blocks(rows: sentRows, bytesPerRow: stride), into: incoming,
      Blocks(rows: receivedRows, bytesPerRow: stride), step: step
    ).wait()
    var ordered = [Float](repeating: 0, count: rows.count)
    for (index, row) in rows.enumerated() { unsafe ordered[Int(row)] = incoming.floats[index] }
    return ordered
  }

  private static func exchange(
    _ source: MessageBuffer, _ sent: [Int], _ received: [Int], width: Int, _ communicator: any Communicator,
    _ step: String, into buffer: inout ExchangeBuffer
  ) throws(CommunicationError) -> MessageBuffer {
    let bytes = width * MemoryLayout<Float>.stride
    let destination = buffer.reserve(rows: received.reduce(0, +), width: width)
    try communicator.startAllToAll(
      from: source, Blocks(rows: sent, bytesPerRow: bytes), into: destination,
      Blocks(rows: received, bytesPerRow: bytes), step: step
    ).wait()
    return destination
  }

  /// Copies rows in an order, in blocks that are tasks.
  private func gather(
    _ values: UnsafePointer<Float>, _ order: [Int32], width: Int, into target: UnsafeMutablePointer<Float>,
    _ execution: Execution
  ) {
    let block = 64
    unsafe order.withUnsafeBufferPointer { order in
      Parallel.forEach((order.count + block - 1) / block, execution) { task in
        for index in task * block..<min((task + 1) * block, order.count) {
          unsafe (target + index * width).update(from: values + Int(order[index]) * width, count: width)
        }
      }
    }
  }
}
