/// One rank's part in an exchange between threads: each receiver copies straight from the sender's buffer, once.
///
/// `@unchecked Sendable`: see `LocalWorld`, which guards everything but `unreceived`.
final class LocalExchange: ExchangeInFlight, @unchecked Sendable {
  let content: Exchange
  /// This rank, by its number in the job.
  let member: Int
  /// `[size]`, by rank in the group: the ranks whose block this rank has not copied yet. Only the rank's own thread
  /// uses it.
  private var unreceived: [Bool]
  private var unreceivedCount: Int
  /// `[size]`, by rank in the group: the ranks that have not copied this rank's block yet.
  var untaken: [Bool]
  var untakenCount: Int
  /// The parts of ranks that have entered the exchange and whose block this rank has not copied yet.
  var arrived: [LocalExchange] = []
  /// The ranks that have not entered the exchange.
  var absentCount: Int
  /// Whether this rank was woken for ranks that have arrived, and has not checked since then.
  var isWoken = false
  private let world: LocalWorld

  init(_ content: Exchange, world: LocalWorld) {
    self.content = content
    self.world = world
    member = content.members[content.rank]
    var isPeer = [Bool](repeating: false, count: content.members.count)
    for peer in content.peers { isPeer[peer] = true }
    (unreceived, untaken) = (isPeer, isPeer)
    unreceivedCount = content.peers.count
    untakenCount = content.peers.count
    absentCount = content.peers.count
  }

  /// Notes that another rank has entered the exchange.
  func meet(_ other: LocalExchange) {
    arrived.append(other)
    absentCount -= 1
  }

  /// Whether this rank has copied the blocks of all others.
  var hasReceivedAll: Bool { unreceivedCount == 0 }

  func hasReceived(from rank: Int) -> Bool { !unreceived[rank] }

  var missing: [Int] {
    let untaken = world.untaken(of: self)
    return content.peers.filter { unreceived[$0] || untaken[$0] }.map { content.members[$0] }.sorted()
  }

  func test() throws(TransportFault) -> Bool {
    let senders = world.takeArrived(of: self)
    for sender in senders { try receive(from: sender) }
    return try world.complete(self, after: senders)
  }

  private func receive(from sender: LocalExchange) throws(TransportFault) {
    let other = sender.content.rank
    guard sender.content.operation == content.operation else {
      throw .mismatch(
        rank: sender.member, "is in \(sender.content.operation), where \(content.operation) was expected")
    }
    let bytes = sender.content.sent.counts[content.rank]
    guard bytes == content.received.counts[other] else {
      throw .mismatch(
        rank: sender.member, "sent \(bytes) bytes, where \(content.received.counts[other]) were expected")
    }
    unsafe (content.destination.base + content.received.offsets[other]).copyMemory(
      from: sender.content.source.base + sender.content.sent.offsets[content.rank], byteCount: bytes)
    unreceived[other] = false
    unreceivedCount -= 1
  }
}

/// One rank's end of a `LocalWorld`.
final class LocalTransport: Transport {
  let rank: Int
  private let world: LocalWorld

  init(rank: Int, world: LocalWorld) {
    self.rank = rank
    self.world = world
  }

  var size: Int { world.size }
  var hosts: [Int] { world.hosts }

  func start(_ exchange: Exchange) throws(TransportFault) -> any ExchangeInFlight {
    try exchange.copyOwnBlock()
    let local = LocalExchange(exchange, world: world)
    world.start(local)
    return local
  }

  func mark() -> UInt64 { world.eventCount(of: rank) }

  func idle(since mark: UInt64, until deadline: ContinuousClock.Instant) {
    let duration = deadline - .now
    if duration > .zero { world.sleep(rank, since: mark, atMost: duration) }
  }

  func threadShare(of count: Int) -> Int { evenShare(of: count, forRank: rank, among: size) }

  var isEnding: Bool { false }

  /// Does nothing: the other ranks are notified when this rank ends.
  func fail() {}
}
