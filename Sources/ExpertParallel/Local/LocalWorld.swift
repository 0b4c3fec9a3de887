#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// The state that the ranks of one process share: the exchanges under way, and the ranks that have ended.
///
/// `@unchecked Sendable`: everything is read and written under the lock, except for the buffers, which only the ranks of
/// an exchange touch: a sender's buffer is read between its start and its last receiver's mark, both under the lock.
@safe final class LocalWorld: @unchecked Sendable {
  let size: Int
  let hosts: [Int]
  private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
  private let conditions: UnsafeMutablePointer<pthread_cond_t>
  /// `[size]`: counts the events that a rank is woken for.
  private var events: [UInt64]
  /// The parts of the ranks in each exchange, by their numbers in the job. Two groups may use one identity at once, but have
  /// no rank in common.
  private var started: [ExchangeID: [Int: LocalExchange]] = [:]
  /// Why a rank has ended.
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

  /// Counts an event of a rank and wakes its thread. To be called under the lock.
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
  /// A waiting rank is woken when half of the ranks that it waits for have come since it last looked, and so log₂R times
  /// per exchange: it copies early what is there, but R ranks on few processors do not wake each other R² times.
  func start(_ exchange: LocalExchange) {
    locked {
      let id = exchange.content.id
      let (rank, members) = (exchange.content.rank, exchange.content.members)
      // Also ranks that are no peers of this one, for this one may be a peer of theirs: they then notice the mismatch.
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

  /// Marks that a rank starts nothing more, and wakes all ranks, as some may wait for it.
  func end(_ rank: Int, by error: (any Error)?) {
    locked {
      if firstError == nil { firstError = error }
      ended[rank] = error.map { "\($0)" } ?? "it returned"
      for other in 0..<size { wake(other) }
    }
  }

  /// Forgets all exchanges, once all ranks have ended: those that failed still hold each other.
  func clear() {
    locked {
      for part in started.values.flatMap(\.values) { part.arrived = [] }
      started = [:]
    }
  }

  /// Returns the parts of ranks whose block a rank has not copied yet, which it now does.
  func takeArrived(of exchange: LocalExchange) -> [LocalExchange] {
    locked {
      defer { (exchange.arrived, exchange.isWoken) = ([], false) }
      return exchange.arrived
    }
  }

  /// Marks that a rank has copied the blocks of `senders`.
  ///
  /// - Returns: whether the rank's own part is done too; it is then forgotten.
  /// - Throws: `.ended` if a rank that has to take part has ended.
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

  /// Names the ranks that have ended before they took part in an exchange; nil if none has. To be called under the lock.
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

  /// `[size]`: the ranks that have not copied what an exchange sends.
  func untaken(of exchange: LocalExchange) -> [Bool] { locked { exchange.untaken } }
}
