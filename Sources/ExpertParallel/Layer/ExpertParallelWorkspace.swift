public import MoE
internal import MoECore

/// Scratch of a pass over ranks, grown by the first pass of a size and reused by the next; one for all layers of a rank.
public struct ExpertParallelWorkspace: ~Copyable {
  /// The scratch of the stages that involve no other rank.
  package var local = Workspace()
  /// `[slices]`: the activations of each slice, and the gradients of its rows.
  var tiles: [TileScratch] = []
  var backwardTiles: [BackwardTiles] = []
  /// The rows that came back for this rank's choices, `[rows, D]`.
  var returned = GrowingBuffer()
  private var received = GrowingBuffer()
  private var sentTokens = GrowingBuffer()
  private var sentRows = GrowingBuffer()
  /// The messages of received and returned rows that do not travel as floats.
  private var receivedMessage = GrowingBuffer()
  private var returnedMessage = GrowingBuffer()

  /// Makes an empty workspace; the first pass fills it.
  public init() {}

  /// Swaps the memory that a recording keeps with the memory here: a pass then reads and writes the recording's.
  mutating func exchange(with recording: inout ExpertParallelRecording) {
    local.exchange(with: &recording.local)
    guard recording.local.extent == .full else { return }
    swap(&tiles, &recording.tiles)
    swap(&returned, &recording.returned)
  }

  /// Makes scratch for `slices` slices.
  mutating func reserve(slices: Int) {
    while tiles.count < slices { tiles.append(TileScratch()) }
    while backwardTiles.count < slices { backwardTiles.append(BackwardTiles()) }
  }

  /// The buffers of a pass by a plan.
  ///
  /// - Parameters:
  ///   - plan: how many rows there are of each kind.
  ///   - width: the numbers of a row, D.
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

/// The memory of a recorded forward pass of one rank, which the backward pass reads; see ``Recording``.
public struct ExpertParallelRecording: ~Copyable {
  package var local: Recording
  /// How rows travelled; nil before the first pass.
  var dispatched: DispatchedPass?
  /// The activations and the rows that came back, of a full recording.
  var tiles: [TileScratch] = []
  var returned = GrowingBuffer()
  /// The routes of a pass that has not begun.
  var routed: ExpertParallelLayer.Routed?

  /// Makes an empty recording.
  ///
  /// - Parameter extent: the same on all ranks. With `.recompute` the tokens travel to the experts again in the backward
  ///   pass.
  public init(_ extent: Recording.Extent = .full) { local = Recording(extent) }

  /// The routing of this rank's tokens: counts and drops are those of this rank alone.
  ///
  /// ``ExpertParallelLayer/statistics(of:by:extent:workspace:execution:)`` adds them up over all ranks.
  public var record: RoutingRecord { local.record }
}

/// The exchange of a pass: the part of its state that involves other ranks.
struct DispatchedPass {
  /// How the tokens are spread over the ranks.
  let batch: Batch
  /// Which rows travel where.
  let plan: DispatchPlan
}

/// A message buffer that grows if a pass needs more than every pass before, and is reused otherwise.
struct GrowingBuffer {
  private var buffer: MessageBuffer?

  /// Returns at least `bytes` bytes, without a defined content.
  mutating func reserve(bytes: Int) -> MessageBuffer {
    if let buffer, buffer.byteCount >= bytes { return buffer }
    buffer = nil
    let grown = MessageBuffer(byteCount: bytes)
    buffer = grown
    return grown
  }
}
