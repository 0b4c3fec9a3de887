/// One rank's part in an exchange between threads: each receiver copies straight from the sender's buffer, once.
///
/// `@unchecked Sendable`: see `LocalWorld`.
final class LocalExchange: ExchangeInFlight, @unchecked Sendable {
  let content: Exchange
  /// The rank of the job.
  let member: Int
  /// The members from which nothing has been received; of the rank's own thread.
  private(set) var unreceived: [Int]
  /// The members that have not taken what is sent; under the world's lock.
  var untaken: [Int]
  private let world: LocalWorld

  init(_ content: Exchange, world: LocalWorld) {
    self.content = content
    self.world = world
    member = content.members[content.rank]
    unreceived = content.peers
    untaken = content.peers
  }

  var missing: [Int] {
    let untaken = world.untaken(of: self)
    return Set(unreceived + untaken).map { content.members[$0] }.sorted()
  }

  func test() throws(TransportFault) -> Bool {
    let (senders, ended, reason) = world.arrivals(for: self)
    for sender in senders { try receive(from: sender) }
    if world.received(self, from: senders) { return true }
    guard ended.isEmpty else { throw .ended(ranks: ended.sorted(), reason: reason) }
    return false
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
    unreceived.removeAll { $0 == other }
  }
}

/// The end of a `LocalWorld` that one rank holds.
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

  var isEnding: Bool { false }

  /// The others are told when the rank ends.
  func fail() {}
}
