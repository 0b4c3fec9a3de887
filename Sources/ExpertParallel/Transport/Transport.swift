/// How bytes get from rank to rank; all collective operations are made of its one exchange.
///
/// One of its ranks belongs to one thread at a time.
protocol Transport: AnyObject {
  /// This rank of all.
  var rank: Int { get }
  /// The number of ranks of the job.
  var size: Int { get }
  /// `[size]`: a number for each rank, the same for those on one host.
  var hosts: [Int] { get }

  /// Starts an exchange.
  func start(_ exchange: Exchange) throws(TransportFault) -> any ExchangeInFlight

  /// A mark that ``idle(since:until:)`` compares, to be taken before looking whether there is anything to do.
  func mark() -> UInt64

  /// Returns when something may have happened since the mark, at the latest at a time.
  func idle(since mark: UInt64, until deadline: ContinuousClock.Instant)

  /// Whether the job is being ended from outside.
  var isEnding: Bool { get }

  /// An operation failed, with whatever it leaves under way.
  func fail()
}

/// Bytes to and from each rank of a group.
///
/// A message goes from each to each of its peers, empty ones too. So an exchange completes on a rank only when all of them
/// have entered it: a rank that is missing is noticed in the operation in which it is missing, and a count that differs
/// is noticed too. The price is R − 1 messages an exchange where all others are peers.
struct Exchange {
  let operation: String
  let id: ExchangeID
  /// The ranks of the job that take part, by their rank in the group.
  let members: [Int]
  /// This rank in the group.
  let rank: Int
  let source: MessageBuffer
  let sent: Blocks
  let destination: MessageBuffer
  let received: Blocks
  /// The other members that this one exchanges with, as all of them know; the next one first, so that not all turn to
  /// rank 0 at once.
  let peers: [Int]
}

/// What tells exchanges apart: no two under way between the same ranks have the same.
struct ExchangeID: Hashable {
  /// The group; ranks that share two know them by different numbers, or have a part of their sequences in each.
  let context: Int
  /// The operation within the group.
  let sequence: Int
  /// The exchange within the operation, below ``stageLimit``.
  let stage: Int

  static let stageLimit = 4
}

/// An exchange that has been started. It holds its buffers.
protocol ExchangeInFlight: AnyObject {
  /// Makes progress; whether all has been received and all that was sent may be overwritten.
  func test() throws(TransportFault) -> Bool
  /// The ranks of the job with which something is still under way.
  var missing: [Int] { get }
}

/// What can go wrong in a transport, without the operation and the caller's activity, which a request adds.
enum TransportFault: Error {
  case mismatch(rank: Int, String)
  case ended(ranks: [Int], reason: String)
  case failed(String)
}

extension Exchange {
  /// What a rank sends itself does not travel.
  func copyOwnBlock() throws(TransportFault) {
    let (bytes, expected) = (sent.counts[rank], received.counts[rank])
    guard bytes == expected else {
      throw .mismatch(
        rank: members[rank], "sent itself \(bytes) bytes, where \(expected) were expected")
    }
    if bytes > 0 {
      unsafe (destination.base + received.offsets[rank]).copyMemory(
        from: source.base + sent.offsets[rank], byteCount: bytes)
    }
  }
}
