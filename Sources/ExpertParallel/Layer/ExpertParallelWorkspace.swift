public import MoE
internal import MoECore

/// Scratch of a pass over ranks, which the first pass of a size allocates and later passes reuse. One workspace serves
/// all layers of a rank.
public struct ExpertParallelWorkspace: ~Copyable {
  /// The scratch of the stages that involve no other rank.
  package var local = Workspace()
  /// `[slices]`: the memory of each slice's activations, and of the gradients of its rows.
  var tiles: [TileScratch] = []
  var backwardTiles: [GradientTileScratch] = []
  /// The rows that came back for this rank's choices, `[rows, D]`.
  var returned = GrowingBuffer()
  private var received = GrowingBuffer()
  private var sentTokens = GrowingBuffer()
  private var sentRows = GrowingBuffer()
  /// The messages of received and returned rows that do not travel as floats.
  private var receivedMessage = GrowingBuffer()
  private var returnedMessage = GrowingBuffer()

  /// Makes an empty workspace; the first pass allocates its memory.
  public init() {}

  /// Swaps the routing memory with that of a recording, so that a pass reads and writes the recording's memory.
  mutating func exchange(with recording: inout ExpertParallelRecording) {
    local.exchange(with: &recording.local)
    guard recording.local.extent == .full else { return }
    swap(&tiles, &recording.tiles)
    swap(&returned, &recording.returned)
  }

  /// Makes scratch for `slices` slices.
  mutating func reserve(slices: Int) {
    while tiles.count < slices { tiles.append(TileScratch()) }
    while backwardTiles.count < slices { backwardTiles.append(GradientTileScratch()) }
  }

  /// Returns the buffers of a pass that follows a plan.
  ///
  /// - Parameters:
  ///   - plan: the plan, which gives the number of rows of each kind.
  ///   - width: the number of values per row, D.
  ///   - payload: the number format in which rows travel.
  mutating func buffers(for plan: DispatchPlan, width: Int, payload: Payload) -> DispatchBuffers {
    func sent(_ count: Int, _ memory: inout GrowingBuffer) -> RowBuffer {
      let message = memory.reserve(bytes: count * width * payload.bytesPerElement)
      return RowBuffer(message: message, values: message, payload: payload, width: width)
    }
    func received(_ count: Int, _ message: inout GrowingBuffer, _ values: inout GrowingBuffer) -> RowBuffer {
      if payload == .float32 { return sent(count, &values) }
      return RowBuffer(
        message: message.reserve(bytes: count * width * payload.bytesPerElement),
        values: values.reserve(bytes: count * width * MemoryLayout<Float>.stride), payload: payload,
        width: width)
    }
    return DispatchBuffers(
      sentTokens: sent(plan.tokens.count, &sentTokens),
      receivedTokens: received(plan.receivedTokenCount, &receivedMessage, &self.received),
      sentRows: sent(plan.sentRowCount, &sentRows),
      returnedRows: received(plan.returnedRowCount, &returnedMessage, &returned))
  }
}

/// The memory of a recorded forward pass of one rank, which the backward pass reads; see `Recording`.
public struct ExpertParallelRecording: ~Copyable {
  package var local: Recording
  /// The recorded pass that waits for its backward pass; nil if there is none.
  var pass: RecordedDispatch?
  /// The routes of a pass that has not begun.
  var routed: ExpertParallelLayer.LocalRoutes?
  /// The memory of a full recording: the activations, and the rows that came back.
  var tiles: [TileScratch] = []
  var returned = GrowingBuffer()

  /// Makes an empty recording.
  ///
  /// - Parameter extent: how much of the pass is kept, the same on all ranks. With `.recompute` the tokens travel to
  ///   the experts again in the backward pass.
  public init(_ extent: Recording.Extent = .full) { local = Recording(extent) }

  /// Forgets the recorded pass and the routes, before others overwrite their memory.
  mutating func forget() {
    local.forget()
    pass = nil
    routed = nil
  }

  /// The routing of this rank's tokens. Its counts and drops cover only this rank.
  ///
  /// ``ExpertParallelLayer/statistics(of:by:extent:workspace:execution:)`` adds them up over all ranks.
  public var record: RoutingRecord { local.record }
}

/// The routing of a pass over all ranks: made by the forward pass, used again by the backward pass.
struct DispatchedPass {
  /// The distribution of the tokens over the ranks.
  let batch: Batch
  /// The routes of this rank's tokens.
  let routes: Routes
  /// The gates of the dense branch; nil if it has none.
  let gates: BranchGates?
  /// The plan of the rows that travel.
  let plan: DispatchPlan
  /// The row of each of this rank's choices among the rows that come back.
  let choices: ChoiceRows
  /// `[slices]`: the rows of this rank's experts.
  let slices: [SliceRows]
}

/// The rows of this rank's experts in one slice.
struct SliceRows {
  let groups: RowGroups
  /// `[rows]`: the number by which each row's token is multiplied; nil for 1.
  let weights: MemoryView<Float>?

  init(_ slice: DispatchPlan.Slice, weighsInput: Bool) throws(MoEError) {
    groups = RowGroups(
      offsets: try MemoryView(copying: slice.offsets), tokens: try MemoryView(copying: slice.order),
      rowCount: slice.rowCount)
    weights = weighsInput ? try MemoryView(copying: slice.weights) : nil
  }
}

/// The activations of a pass over ranks.
struct DispatchedActivations {
  /// `[slices]`: the passes of this rank's experts.
  let slices: [NetworkTiles]
  /// The rows that came back for this rank's choices; nil if they were not requested.
  let rows: MemoryView<Float>?
  /// The dense branch's activations; nil if there is no dense branch.
  let branch: NetworkTiles?
}

/// A forward pass over ranks that waits for its backward pass.
struct RecordedDispatch {
  let identity: PassIdentity
  let dispatched: DispatchedPass
  /// The activations; nil if the backward pass recomputes them.
  let activations: DispatchedActivations?
}

/// A message buffer that is reused, and grows only when a pass needs more than every earlier pass.
struct GrowingBuffer {
  private var buffer: MessageBuffer?

  /// Returns at least `bytes` bytes with undefined contents.
  mutating func reserve(bytes: Int) -> MessageBuffer {
    if let buffer, buffer.byteCount >= bytes { return buffer }
    buffer = nil
    let grown = MessageBuffer(byteCount: bytes)
    buffer = grown
    return grown
  }
}
