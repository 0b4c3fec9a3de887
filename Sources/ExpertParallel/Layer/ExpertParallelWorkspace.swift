public import MoE
internal import MoECore

/// Scratch of a pass over ranks, grown by the first pass of a size and reused by the next; one for all layers of a rank.
public struct ExpertParallelWorkspace: ~Copyable {
  package var local = Workspace()
  /// The activations of each slice.
  var tiles: [TileScratch] = []
  var backwardTiles: [GradientTileScratch] = []
  /// What the experts made of this rank's choices, `[rows, D]`, in the order in which they travelled.
  var returned = ExchangeBuffer()
  private var received = ExchangeBuffer()
  private var sentTokens = ExchangeBuffer()
  private var sentRows = ExchangeBuffer()
  private var receivedPayload = ExchangeBuffer()
  private var returnedPayload = ExchangeBuffer()

  /// Makes an empty workspace; the first pass fills it.
  public init() {}

  /// Exchanges what a recording keeps with what is here: a pass then reads and writes the recording's.
  mutating func exchange(with recording: inout ExpertParallelRecording) {
    local.exchange(with: &recording.local)
    guard recording.local.extent == .full else { return }
    swap(&tiles, &recording.tiles)
    swap(&returned, &recording.returned)
  }

  /// Makes scratch for each slice.
  mutating func reserve(slices: Int) {
    while tiles.count < slices { tiles.append(TileScratch()) }
    while backwardTiles.count < slices { backwardTiles.append(GradientTileScratch()) }
  }

  /// The memory of a trip.
  mutating func tripBuffers(_ dispatch: TokenDispatch, width: Int, payload: Payload) -> TripBuffers {
    func rows(
      _ count: Int, _ payload: Payload, _ travelling: inout ExchangeBuffer
    ) -> TravellingRows {
      let buffer = travelling.reserve(bytes: count * width * payload.bytesPerElement)
      return TravellingRows(travelling: buffer, unpacked: buffer, payload: payload)
    }
    func rows(
      _ count: Int, _ travelling: inout ExchangeBuffer, unpacked: inout ExchangeBuffer
    ) -> TravellingRows {
      if payload == .float32 { return rows(count, .float32, &unpacked) }
      return TravellingRows(
        travelling: travelling.reserve(bytes: count * width * payload.bytesPerElement),
        unpacked: unpacked.reserve(bytes: count * width * MemoryLayout<Float>.stride), payload: payload)
    }
    return TripBuffers(
      width: width, sentTokens: rows(dispatch.tokens.count, payload, &sentTokens),
      receivedTokens: rows(dispatch.receivedTokenCount, &receivedPayload, unpacked: &received),
      sentRows: rows(dispatch.sentBackCount, payload, &sentRows),
      returnedRows: rows(dispatch.returnedRowCount, &returnedPayload, unpacked: &returned))
  }
}

/// What a recorded forward pass of a rank leaves for its backward pass; see ``Recording``.
public struct ExpertParallelRecording: ~Copyable {
  package var local: Recording
  /// The pass that was recorded and waits for its backward pass; nil where there is none.
  var pass: RecordedSpreadPass?
  /// The routes of a pass that has not begun.
  var routed: ExpertParallelLayer.LocalRoutes?
  /// The memory of a full recording's activations.
  var tiles: [TileScratch] = []
  var returned = ExchangeBuffer()

  /// Makes an empty recording.
  ///
  /// - Parameter extent: the same on all ranks: with `.recompute` the tokens travel to the experts again in the backward pass.
  public init(_ extent: Recording.Extent = .full) { local = Recording(extent) }

  /// Lets go of a pass and of routes, whose memory others are about to overwrite.
  mutating func forget() {
    local.forget()
    pass = nil
    routed = nil
  }

  /// What happened to this rank's tokens: counts and drops are of these alone. Their sums over all ranks are
  /// ``ExpertParallelLayer/statistics(of:by:extent:workspace:execution:)``.
  public var record: RoutingRecord { local.record }
}

/// The order of a pass's rows over all ranks: made by the forward pass, used again by the backward pass.
struct SpreadOrder {
  /// This rank's tokens.
  let routes: Routes
  let gates: BranchGates?
  /// The row of each of this rank's choices among the rows that come back.
  let choices: ChoiceRows
  let dispatch: TokenDispatch
  /// For each slice, the rows of this rank's experts.
  let groups: [RowGroups]
  /// For each slice, the factor of each row of the experts' input; nil for 1.
  let weights: [MemoryView<Float>?]
  /// `[R + 1]`: the first token of each rank, and T.
  let firstTokens: [Int]
}

/// The activations of a pass over ranks.
struct SpreadActivations {
  /// For each slice, the pass of this rank's experts.
  let slices: [NetworkTiles]
  /// The rows that came back for this rank's choices; nil where they were not wanted.
  let rows: MemoryView<Float>?
  /// nil where there is no dense branch.
  let branch: NetworkTiles?
}

/// A forward pass over ranks that waits for its backward pass.
struct RecordedSpreadPass {
  let identity: PassIdentity
  let order: SpreadOrder
  /// nil where the backward pass computes them again.
  let activations: SpreadActivations?
}

/// A message buffer that grows when more is asked for than ever before and is otherwise reused.
struct ExchangeBuffer {
  private var buffer: MessageBuffer?

  /// At least so many bytes, without a defined content.
  mutating func reserve(bytes: Int) -> MessageBuffer {
    if let buffer, buffer.byteCount >= bytes { return buffer }
    buffer = nil
    let grown = MessageBuffer(byteCount: bytes)
    buffer = grown
    return grown
  }
}

extension MessageBuffer {
  /// The content as floats, valid as long as the buffer lives.
  var floats: UnsafeMutablePointer<Float> { unsafe base.assumingMemoryBound(to: Float.self) }

  /// The content as floats.
  var view: MemoryView<Float> {
    unsafe MemoryView(floats, count: byteCount / MemoryLayout<Float>.stride, of: self)
  }
}
