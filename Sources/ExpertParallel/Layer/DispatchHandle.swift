internal import MoE
internal import MoECore

/// The rows of one pass that are under way. ``DispatchPlan/dispatch(_:through:over:execution:meter:during:)`` makes the
/// handle. It is used once per slice, in order of the slices, and ``combine()`` consumes it.
///
/// ```swift
/// var handle = try plan.dispatch(tokens, …)     // All slices of tokens are under way.
/// for slice in plan.slices.indices {
///   let tokens = try handle.receive(slice)      // Waits for this slice; later ones travel on.
///   let rows = …                                // Meanwhile the slice before travels back.
///   try handle.sendBack(rows, ofSlice: slice)
/// }
/// let rows = try handle.combine()               // Waits until all slices are back.
/// ```
///
/// Only the first slice out and the last slice back have no computation of the experts beside them. The caller may do
/// other work after `dispatch`, and before `combine`.
///
/// If a computation throws and the handle is dropped, it waits for the messages under way, because they use the buffers
/// of the workspace.
struct DispatchHandle: ~Copyable {
  private let plan: DispatchPlan
  private let buffers: DispatchBuffers
  private let communicator: any Communicator
  private let execution: Execution
  private let activity: String
  /// The places of the handle's operations among those of the communicator: outward by slice, then back by slice.
  private let firstPlace: Int
  private var outward: [Request] = []
  private var back: [Request] = []
  /// `[slices]`: the rows of each slice computed so far.
  private var computed: [MemoryView<Float>] = []
  private var stopwatch: PassStopwatch

  fileprivate init(
    _ plan: DispatchPlan, through buffers: DispatchBuffers, over communicator: any Communicator,
    execution: Execution, meter: OverlapMeter.Reader, during activity: String
  ) {
    self.plan = plan
    self.buffers = buffers
    self.communicator = communicator
    self.execution = execution
    self.activity = activity
    // Each rank starts the operations back in its own order, so all operations get their places now.
    firstPlace = communicator.group.reserve(2 * plan.slices.count)
    stopwatch = PassStopwatch(meter)
  }

  deinit { for request in outward + back { request.settle() } }

  /// Gathers the tokens to be sent, and starts to send all slices.
  ///
  /// - Parameter values: `[t, D]`.
  fileprivate mutating func start(_ values: MemoryView<Float>) throws(CommunicationError) {
    let firstCount = plan.slices[0].dispatch.sentCount
    buffers.sentTokens.gather(values, plan.tokens[..<firstCount], at: 0, execution)
    stopwatch.departed()
    try startOutward(0)
    buffers.sentTokens.gather(values, plan.tokens[firstCount...], at: firstCount, execution)
    // The slices arrive in this order, because messages between two ranks do not overtake one another.
    for slice in plan.slices.indices.dropFirst() { try startOutward(slice) }
  }

  private mutating func startOutward(_ slice: Int) throws(CommunicationError) {
    outward.append(
      try communicator.startRows(
        plan.slices[slice].dispatch, from: buffers.sentTokens, into: buffers.receivedTokens,
        at: firstPlace + slice, during: activity))
  }

  /// Returns whether the tokens of a slice have arrived. The call makes no progress.
  func hasArrived(_ slice: Int) -> Bool { outward[slice].isComplete }

  /// Waits for the tokens of a slice.
  ///
  /// - Returns: the tokens that this rank has received, `[received tokens, D]`, as far as this slice.
  mutating func receive(_ slice: Int) throws(CommunicationError) -> MemoryView<Float> {
    stopwatch.stop()
    try outward[slice].wait()
    stopwatch.start()
    let traffic = plan.slices[slice].dispatch
    buffers.receivedTokens.unpack(
      traffic.firstReceived..<traffic.firstReceived + traffic.receivedCount, execution)
    return buffers.receivedTokens.view
  }

  /// Starts to send the rows of a slice back to the ranks of their tokens.
  ///
  /// - Parameters:
  ///   - rows: `[rows of the slice, D]`. With ``ReturnedRows/partialSums`` they must stay unchanged until the handle is
  ///     consumed.
  ///   - slice: the slice that follows the slice of the previous call.
  ///   - weighsSums: with ``ReturnedRows/partialSums``, whether a sum's terms are multiplied by the weights of their
  ///     rows.
  mutating func sendBack(
    _ rows: MemoryView<Float>, ofSlice slice: Int, weighsSums: Bool = true
  ) throws(CommunicationError) {
    let content = plan.slices[slice]
    let first = content.combine.firstSent
    computed.append(rows)
    switch plan.returned {
    case .perChoice: buffers.sentRows.gather(rows, content.rows[...], at: first, execution)
    case .partialSums:
      buffers.sentRows.add(
        content.sums, of: plan.terms, rows: computed, weights: weighsSums ? plan.slices.map(\.weights) : nil,
        at: first, execution)
    }
    stopwatch.stop()
    back.append(
      try communicator.startRows(
        content.combine, from: buffers.sentRows, into: buffers.returnedRows,
        at: firstPlace + plan.slices.count + slice, during: activity))
    stopwatch.start()
  }

  /// Waits until the rows of all slices are back.
  ///
  /// - Returns: `[returned rows, D]`, with the shards of each row added up.
  consuming func combine() throws(CommunicationError) -> MemoryView<Float> {
    try finish()
    let rows = buffers.returnedRows
    rows.unpack(0..<plan.returnedRowCount, execution)
    rows.add(plan.shardRows, execution)
    return rows.view
  }

  /// Ends a pass that sends no rows back: a forward pass that is recomputed for its activations.
  consuming func discard() throws(CommunicationError) { try finish() }

  private mutating func finish() throws(CommunicationError) {
    stopwatch.stop()
    for request in back { try request.wait() }
    stopwatch.note(
      firstArrival: outward[0].completion!, receivedTokens: plan.receivedTokenCount,
      sentRows: back.isEmpty ? 0 : plan.sentRowCount, slices: plan.slices.count)
  }
}

extension DispatchPlan {
  /// Dispatches this rank's tokens: starts to send them to the ranks of their experts. A collective.
  ///
  /// - Parameters:
  ///   - values: `[t, D]`: this rank's tokens, or the gradients of its output.
  ///   - buffers: the buffers from ``ExpertParallelWorkspace/buffers(for:width:payload:)``.
  ///   - communicator: the ranks.
  ///   - execution: the threads that gather rows.
  ///   - meter: the reader that takes the times of the pass.
  ///   - activity: what the caller is doing, which errors name.
  func dispatch(
    _ values: MemoryView<Float>, through buffers: DispatchBuffers, over communicator: any Communicator,
    execution: Execution, meter: OverlapMeter.Reader, during activity: String
  ) throws(CommunicationError) -> DispatchHandle {
    var handle = DispatchHandle(
      self, through: buffers, over: communicator, execution: execution, meter: meter, during: activity)
    try handle.start(values)
    return handle
  }
}

/// Measures how long the exchange and the computation of one pass take, for ``OverlapMeter``.
private struct PassStopwatch {
  private let meter: OverlapMeter.Reader
  private var departure = ContinuousClock.now
  private var computation = Duration.zero
  /// The time at which this rank began to compute; nil while it waits or sends.
  private var lap: ContinuousClock.Instant?

  init(_ meter: OverlapMeter.Reader) { self.meter = meter }

  mutating func departed() { departure = .now }
  mutating func start() { lap = .now }
  mutating func stop() {
    if let lap { computation += lap.duration(to: .now) }
    lap = nil
  }

  /// - Parameters:
  ///   - firstArrival: the time at which the first slice had arrived.
  ///   - receivedTokens: the number of token rows that this rank received.
  ///   - sentRows: the number of rows that this rank sent back.
  ///   - slices: the number of slices of the pass.
  func note(firstArrival: ContinuousClock.Instant, receivedTokens: Int, sentRows: Int, slices: Int) {
    // This assumes that rows travel back as fast as tokens travelled out.
    let ratio = Double(sentRows) / Double(max(receivedTokens, 1))
    meter.note(
      exchange: departure.duration(to: firstArrival) * (1 + ratio), computation: computation, slices: slices)
  }
}

extension Communicator {
  /// Starts to send rows to all ranks and to receive theirs. The exchange is hierarchical if the traffic has a matrix.
  ///
  /// - Parameter place: the operation's place, from `CommunicatorGroup.reserve(_:)`.
  fileprivate func startRows(
    _ traffic: DispatchPlan.Traffic, from source: RowBuffer, into destination: RowBuffer, at place: Int,
    during activity: String
  ) throws(CommunicationError) -> Request {
    let sent = source.layout(traffic.sent, from: traffic.firstSent)
    let received = destination.layout(traffic.received, from: traffic.firstReceived)
    guard let matrix = traffic.matrix else {
      return try start(
        "all-to-all", from: source.message, sent, into: destination.message, received, during: activity,
        at: place)
    }
    return try startHierarchicalAllToAll(
      from: source.message, sent, into: destination.message, received,
      counts: matrix.map { $0 * source.bytesPerRow }, hosts: group.hosts, during: activity, at: place)
  }
}
