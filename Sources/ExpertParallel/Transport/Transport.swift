/// How bytes get from rank to rank. All collective operations are made of its one exchange.
///
/// One thread at a time may use a rank's transport.
protocol Transport: AnyObject {
  /// This rank of all.
  var rank: Int { get }
  /// The number of ranks of the job.
  var size: Int { get }
  /// `[size]`: a number per rank, the same for all ranks of one host.
  var hosts: [Int] { get }

  /// Starts an exchange.
  func start(_ exchange: Exchange) throws(TransportFault) -> any ExchangeInFlight

  /// Returns a mark for ``idle(since:until:)``, to be taken before an exchange is tested.
  func mark() -> UInt64

  /// Leaves the processor to other threads until an exchange may have moved since `mark`, at the latest until `deadline`.
  func idle(since mark: UInt64, until deadline: ContinuousClock.Instant)

  /// Returns this rank's share of `count` threads, at least 1: ranks on one host share its processors.
  func threadShare(of count: Int) -> Int

  /// Whether the job is being ended from outside.
  var isEnding: Bool { get }

  /// Notes that an operation failed. Messages that it leaves under way stay with the transport.
  func fail()
}

/// Bytes to and from each rank of a group.
///
/// A message goes from each rank to each of its peers, also an empty one. So an exchange completes on a rank only when all
/// its peers have entered it: a missing rank is noticed in the operation in which it is missing, and a count that differs is
/// noticed too. The price is R − 1 messages per rank and exchange if all other ranks are peers.
struct Exchange {
  let operation: String
  let id: ExchangeID
  /// The ranks of the job that take part, by their rank in the group.
  let members: [Int]
  /// This rank in the group.
  let rank: Int
  let source: MessageBuffer
  let sent: BlockLayout
  let destination: MessageBuffer
  let received: BlockLayout
  /// The ranks of the group with which this one exchanges; each of them has this one among its peers. The next rank comes
  /// first, so that not all ranks turn to rank 0 at once.
  let peers: [Int]
}

/// The identity of an exchange: no two exchanges under way between the same ranks have the same.
struct ExchangeID: Hashable {
  /// The number of the group. Ranks that share two groups know them by different numbers, or the groups share a number and
  /// divide its sequences.
  let context: Int
  /// The number of the operation within the group.
  let sequence: Int
  /// The number of the exchange within the operation, below ``stageLimit``.
  let stage: Int

  static let stageLimit = 4
}

/// An exchange that has been started. It retains its buffers.
protocol ExchangeInFlight: AnyObject {
  /// Makes progress.
  ///
  /// - Returns: whether the exchange is complete: all blocks have been received, and the sent ones may be overwritten.
  func test() throws(TransportFault) -> Bool
  /// The ranks of the job from which or to which a block is still under way.
  var missing: [Int] { get }
}

/// A fault of a transport, without the operation and the caller's activity, which a request adds.
enum TransportFault: Error {
  case mismatch(rank: Int, String)
  case ended(ranks: [Int], reason: String)
  case failed(String)
}

extension Exchange {
  /// Copies the block that a rank sends to itself: it does not travel.
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

/// Returns the share of `count` threads of one of several ranks: shares differ by at most one, and none is 0.
func evenShare(of count: Int, forRank rank: Int, among ranks: Int) -> Int {
  max((rank + 1) * count / ranks - rank * count / ranks, 1)
}
