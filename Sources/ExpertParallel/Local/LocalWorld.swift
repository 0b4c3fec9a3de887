#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// What the ranks of one process share: exchanges that have been started, and who has ended.
///
/// `@unchecked Sendable`: everything is read and written under the lock, but for the buffers, which only the ranks of
/// an exchange touch: a sender's are read between its start and its last receiver's mark, both under the lock.
@safe final class LocalWorld: @unchecked Sendable {
  let size: Int
  let hosts: [Int]
  private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
  private let conditions: UnsafeMutablePointer<pthread_cond_t>
  /// Counts what has happened to each rank.
  private var events: [UInt64]
  private var started: [Key: LocalExchange] = [:]
  private var ended: [Int: String] = [:]
  private(set) var firstError: (any Error)?

  /// A rank's part in an exchange. Groups of one context have no rank or no sequence in common.
  private struct Key: Hashable {
    let id: ExchangeID
    let rank: Int
  }

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

  /// To be called under the lock.
  private func wake(_ rank: Int) {
    events[rank] &+= 1
    unsafe pthread_cond_signal(conditions + rank)
  }

  func eventCount(of rank: Int) -> UInt64 { locked { events[rank] } }

  /// Sleeps until something has happened to a rank since `mark`, at most so long.
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

  func start(_ exchange: LocalExchange) {
    locked {
      started[Key(id: exchange.content.id, rank: exchange.member)] = exchange
      for other in exchange.content.peers { wake(exchange.content.members[other]) }
    }
  }

  /// A rank will start nothing more. Those that wait for it are woken.
  func end(_ rank: Int, by error: (any Error)?) {
    locked {
      if firstError == nil { firstError = error }
      ended[rank] = error.map { "\($0)" } ?? "it returned"
      for other in 0..<size { wake(other) }
    }
  }

  /// What has been sent to an exchange and not been received yet, and which of its ranks have ended without it.
  func arrivals(for exchange: LocalExchange) -> (senders: [LocalExchange], ended: [Int], reason: String) {
    locked {
      var senders: [LocalExchange] = []
      var gone: [Int] = []
      var reason = ""
      for other in exchange.unreceived {
        let rank = exchange.content.members[other]
        if let sender = started[Key(id: exchange.content.id, rank: rank)] {
          senders.append(sender)
        } else if let why = ended[rank] {
          if gone.isEmpty { reason = why }
          gone.append(rank)
        }
      }
      for other in exchange.untaken where !exchange.unreceived.contains(other) {
        let rank = exchange.content.members[other]
        if let why = ended[rank] {
          if gone.isEmpty { reason = why }
          gone.append(rank)
        }
      }
      return (senders, gone, reason)
    }
  }

  /// A rank has received from others; whether its own part is done too, which is then forgotten.
  func received(_ exchange: LocalExchange, from senders: [LocalExchange]) -> Bool {
    locked {
      for sender in senders {
        sender.untaken.removeAll { $0 == exchange.content.rank }
        if sender.untaken.isEmpty { wake(sender.member) }
      }
      guard exchange.unreceived.isEmpty, exchange.untaken.isEmpty else { return false }
      started[Key(id: exchange.content.id, rank: exchange.member)] = nil
      return true
    }
  }

  /// The members that have not taken what an exchange sends.
  func untaken(of exchange: LocalExchange) -> [Int] { locked { exchange.untaken } }
}
