#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// The state that the ranks of one process share: the exchanges under way, and the ranks that have ended.
///
/// `@unchecked Sendable`: everything is read and written under the lock, except for the buffers, which only the ranks
/// of an exchange use. Receivers read a sender's buffer between the sender's start and the last receiver's mark, both
/// of which are set under the lock.
@safe final class LocalWorld: @unchecked Sendable {
  let size: Int
  let hosts: [Int]
  private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
  private let conditions: UnsafeMutablePointer<pthread_cond_t>
  /// `[size]`: the number of events that woke each rank.
  private var events: [UInt64]
  /// The parts of the ranks in each exchange, by their numbers in the job. Two groups may use one identity at the same
  /// time, but then they have no rank in common.
  private var started: [ExchangeID: [Int: LocalExchange]] = [:]
  /// The reason for which each ended rank has ended.
  private var ended: [Int: String] = [:]
  private(set) var firstError: (any Error)?

  init(hosts: [Int]) {
    self.hosts = hosts
    size = hosts.count
    events = [UInt64](repeating: 0, count: size)
    unsafe conditions = .allocate(capacity: size)
    unsafe pthread_mutex_init(mutex, nil)
    var attributes = pthread_condattr_t()
    unsafe pthread_condattr_init(&attributes)
    #if canImport(Glibc)
      unsafe pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
    #endif
    for rank in 0..<size { unsafe pthread_cond_init(conditions + rank, &attributes) }
    unsafe pthread_condattr_destroy(&attributes)
  }

  deinit {
    for rank in 0..<size { unsafe pthread_cond_destroy(conditions + rank) }
    unsafe pthread_mutex_destroy(mutex)
    unsafe conditions.deallocate()
    unsafe mutex.deallocate()
  }

  private func locked<Result>(_ body: () -> Result) -> Result {
    unsafe pthread_mutex_lock(mutex)
    defer { unsafe pthread_mutex_unlock(mutex) }
    return body()
  }

  /// Counts an event of a rank and wakes its thread. The caller holds the lock.
  private func wake(_ rank: Int) {
    events[rank] &+= 1
    unsafe pthread_cond_signal(conditions + rank)
  }

  func eventCount(of rank: Int) -> UInt64 { locked { events[rank] } }

  /// Sleeps until a rank has had an event since `mark`, at most for `duration`.
  func sleep(_ rank: Int, since mark: UInt64, atMost duration: Duration) {
    let (seconds, attoseconds) = duration.components
    locked {
      var time = timespec()
      #if canImport(Glibc)
        unsafe clock_gettime(CLOCK_MONOTONIC, &time)
      #else
        unsafe clock_gettime(CLOCK_REALTIME, &time)
      #endif
      let nanoseconds = time.tv_nsec + Int(attoseconds / 1_000_000_000)
      time.tv_sec += Int(seconds) + nanoseconds / 1_000_000_000
      time.tv_nsec = nanoseconds % 1_000_000_000
      while events[rank] == mark {
        if unsafe pthread_cond_timedwait(conditions + rank, mutex, &time) != 0 { return }
      }
    }
  }

  /// Enters a rank's part in an exchange.
  ///
  /// A waiting rank is woken when half of the ranks that it waits for have arrived since its last check, so log₂R times
  /// per exchange. It copies the blocks that have arrived early, but R ranks on few processors do not wake each other
  /// R² times.
  func start(_ exchange: LocalExchange) {
    locked {
      let id = exchange.content.id
      let (rank, members) = (exchange.content.rank, exchange.content.members)
      // This includes ranks that are not peers of this rank, because this rank may be one of their peers. They then
      // notice the mismatch.
      let entered = started[id] ?? [:]
      for (other, member) in members.enumerated() {
        guard let part = entered[member] else { continue }
        if exchange.untaken[other] { exchange.meet(part) }
        if part.untaken[rank] {
          part.meet(exchange)
          if !part.isWoken, part.arrived.count >= part.absentCount {
            part.isWoken = true
            wake(part.member)
          }
        }
      }
      started[id, default: [:]][exchange.member] = exchange
    }
  }

  /// Marks that a rank starts no further exchange, and wakes all ranks, because some may wait for it.
  func end(_ rank: Int, by error: (any Error)?) {
    locked {
      if firstError == nil { firstError = error }
      ended[rank] = error.map { "\($0)" } ?? "it returned"
      for other in 0..<size { wake(other) }
    }
  }

  /// Forgets all exchanges after all ranks have ended: failed exchanges still retain each other.
  func clear() {
    locked {
      for part in started.values.flatMap(\.values) { part.arrived = [] }
      started = [:]
    }
  }

  /// Returns the parts of the ranks whose blocks a rank has not copied yet and will now copy.
  func takeArrived(of exchange: LocalExchange) -> [LocalExchange] {
    locked {
      defer { (exchange.arrived, exchange.isWoken) = ([], false) }
      return exchange.arrived
    }
  }

  /// Marks that a rank has copied the blocks of `senders`.
  ///
  /// - Returns: whether the rank's own part is done too; it is then forgotten.
  /// - Throws: `.ended` if a rank that must take part has ended.
  func complete(
    _ exchange: LocalExchange, after senders: [LocalExchange]
  ) throws(TransportFault) -> Bool {
    let (isDone, failure) = locked { () -> (Bool, TransportFault?) in
      for sender in senders {
        sender.untaken[exchange.content.rank] = false
        sender.untakenCount -= 1
        if sender.untakenCount == 0 { wake(sender.member) }
      }
      guard exchange.hasReceivedAll, exchange.untakenCount == 0 else {
        return (false, ended.isEmpty ? nil : fault(of: exchange))
      }
      let id = exchange.content.id
      started[id]?[exchange.member] = nil
      if started[id]?.isEmpty ?? false { started[id] = nil }
      return (true, nil)
    }
    if let failure { throw failure }
    return isDone
  }

  /// Returns a fault that names the ranks that ended before they took part in an exchange; nil if none did. The caller
  /// holds the lock.
  private func fault(of exchange: LocalExchange) -> TransportFault? {
    let members = exchange.content.members
    let gone = exchange.content.peers.filter { peer in
      guard ended[members[peer]] != nil else { return false }
      if exchange.hasReceived(from: peer) { return exchange.untaken[peer] }
      // A block that the rank sent before it ended can still be copied.
      return started[exchange.content.id]?[members[peer]] == nil
    }
    guard let first = gone.first else { return nil }
    return .ended(ranks: gone.map { members[$0] }.sorted(), reason: ended[members[first]]!)
  }

  /// Returns, `[size]`, the ranks that have not copied this rank's block of an exchange.
  func untaken(of exchange: LocalExchange) -> [Bool] { locked { exchange.untaken } }
}
