public import MoE
internal import MoECore

/// Scratch of a pass over ranks, grown by the first pass of a size and reused by the next; one for all layers of a rank.
public struct ExpertParallelWorkspace: ~Copyable {
  package var local = Workspace()
  var received = ExchangeBuffer()
  var outgoing = ExchangeBuffer()
  var kept = KeptExchange()

  /// Makes an empty workspace; the first pass fills it.
  public init() {}

  /// Exchanges what a recording keeps with what is here: a pass then reads and writes the recording's.
  mutating func exchange(with recording: inout ExpertParallelRecording) {
    local.exchange(with: &recording.local)
    swap(&kept, &recording.kept)
  }
}

/// What a recorded forward pass of a rank leaves for its backward pass; see ``Recording``.
public struct ExpertParallelRecording: ~Copyable {
  package var local: Recording
  var kept = KeptExchange()

  /// Makes an empty recording.
  ///
  /// - Parameter extent: with `.recompute` the tokens travel to the experts again in the backward pass.
  public init(_ extent: Recording.Extent = .full) { local = Recording(extent) }

  /// What happened to this rank's tokens: counts and drops are of these alone. Their sums over all ranks are
  /// ``ExpertParallelLayer/statistics(of:by:workspace:execution:)``.
  public var record: RoutingRecord { local.record }
}

/// What the exchange of a pass leaves for its backward pass.
struct KeptExchange {
  var dispatch: TokenDispatch?
  /// `[R + 1]`: the first token of each rank, and T.
  var firstTokens: [Int] = []
  /// `[E]`: the rows of each expert over all ranks.
  var rowCounts: [Int] = []
  /// What the experts made of this rank's choices, `[rows, D]`, in the order in which they were announced.
  var returned = ExchangeBuffer()
}

/// A message buffer that grows when more is asked for than ever before and is otherwise reused.
struct ExchangeBuffer {
  private var buffer: MessageBuffer?

  /// At least `rows` rows of `width` floats, without a defined content.
  mutating func reserve(rows: Int, width: Int) -> MessageBuffer {
    let bytes = rows * width * MemoryLayout<Float>.stride
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
