/// The means by which bytes travel from rank to rank. All collective operations consist of its exchanges.
///
/// One thread at a time may use a rank's transport.
protocol Transport: AnyObject {
  /// This rank's number in the job.
  var rank: Int { get }
  /// The number of ranks of the job.
  var size: Int { get }
  /// `[size]`: a number per rank, the same for all ranks of one host.
  var hosts: [Int] { get }

  /// Starts an exchange.
  func start(_ exchange: Exchange) throws(TransportFault) -> any ExchangeInFlight

  /// Returns a mark for ``idle(since:until:)``, to be taken before an exchange is tested.
  func mark() -> UInt64

  /// Leaves the processor to other threads until an exchange may have moved since `mark`, at the latest until
  /// `deadline`.
  func idle(since mark: UInt64, until deadline: ContinuousClock.Instant)

  /// Returns this rank's share of `count` threads, at least 1: ranks on one host share its processors.
  func threadShare(of count: Int) -> Int

  /// Whether the job is being ended from outside.
  var isEnding: Bool { get }

  /// Notes that an operation failed. The transport keeps the messages that the operation leaves under way.
  func fail()
}

/// Bytes to and from each rank of a group.
///
/// Each rank sends a message to each of its peers, even an empty one. So an exchange completes on a rank only when all
/// its peers have entered it: the exchange in which a rank is missing detects it, and it also detects a count that
/// differs. The price is R − 1 messages per rank and exchange if all other ranks are peers.
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
  /// The ranks of the group with which this one exchanges; each of them has this one among its peers. The next rank
  /// comes first, so that not all ranks send to rank 0 at the same time.
  let peers: [Int]
}

/// The identity of an exchange: no two exchanges under way between the same ranks have the same.
struct ExchangeID: Hashable {
  /// The number of the group. Two groups that have ranks in common have different numbers, or share a number and divide
  /// its sequences.
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

/// A fault of a transport. A request adds the operation and the caller's activity to it.
enum TransportFault: Error {
  case mismatch(rank: Int, String)
  case ended(ranks: [Int], reason: String)
  case failed(String)
}

extension Exchange {
  /// Copies the block that a rank sends to itself, which does not travel.
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
