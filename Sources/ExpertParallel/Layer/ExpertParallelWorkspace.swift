public import MoE
internal import MoECore

/// Scratch of a pass over ranks, grown by the first pass of a size and reused by the next; one for all layers of a rank.
public struct ExpertParallelWorkspace: ~Copyable {
  package var local = Workspace()
  /// The activations of each slice.
  var tiles: [TileScratch] = []
  var backwardTiles: [BackwardTiles] = []
  var kept = KeptExchange()
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
    swap(&kept, &recording.kept)
    guard recording.local.extent == .full else { return }
    swap(&tiles, &recording.tiles)
    swap(&returned, &recording.returned)
  }

  /// Scratch for each of so many slices.
  mutating func reserve(slices: Int) {
    while tiles.count < slices { tiles.append(TileScratch()) }
    while backwardTiles.count < slices { backwardTiles.append(BackwardTiles()) }
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
  var kept = KeptExchange()
  /// The activations of a full recording.
  var tiles: [TileScratch] = []
  var returned = ExchangeBuffer()
  /// The routes of a pass that has not begun.
  var routed: ExpertParallelLayer.Routed?

  /// Makes an empty recording.
  ///
  /// - Parameter extent: the same on all ranks: with `.recompute` the tokens travel to the experts again in the backward pass.
  public init(_ extent: Recording.Extent = .full) { local = Recording(extent) }

  /// What happened to this rank's tokens: counts and drops are of these alone. Their sums over all ranks are
  /// ``ExpertParallelLayer/statistics(of:by:extent:workspace:execution:)``.
  public var record: RoutingRecord { local.record }
}

/// What the exchange of a pass leaves for its backward pass.
struct KeptExchange {
  var dispatch: TokenDispatch?
  /// `[R + 1]`: the first token of each rank, and T.
  var firstTokens: [Int] = []

  func tokenCount(of rank: Int) -> Int { firstTokens[rank + 1] - firstTokens[rank] }
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
}
