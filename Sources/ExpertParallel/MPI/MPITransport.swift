#if MPI
  import CCommunicator
  import Glibc

  /// The transport of an MPI job. A process has one, as long as it runs.
  final class MPITransport: Transport {
    let rank: Int
    let size: Int
    let hosts: [Int]
    /// `[size]`: the largest message of MPI to and from each rank, in bytes; longer blocks are cut.
    private let pieces: [Int64]
    private let tags: TagLayout
    /// The exchanges under way, including those that failed, because MPI may still write to their buffers.
    private var inFlight: [ObjectIdentifier: MPIExchange] = [:]
    private var halfStarted: [Exchange] = []
    private var idleCount = 0

    /// - Precondition: MPI has been initialised.
    ///
    /// - Parameter piece: the largest message, in bytes; nil for a size that suits the link to each rank. Between hosts
    ///   that is the size that Open MPI sends over TCP without asking the receiver first (btl_tcp_eager_limit, 64 KiB
    ///   with its header): the receiver's answer would wait behind all bytes that travel in the other direction, while
    ///   the link is idle. Within a host it is the size that MPI can count.
    init(piece: Int64?) throws(CommunicationError) {
      rank = Int(moe_mpi_rank())
      size = Int(moe_mpi_size())
      var hosts = [Int32](repeating: 0, count: size)
      let code = unsafe hosts.withUnsafeMutableBufferPointer { unsafe moe_mpi_hosts($0.baseAddress) }
      guard code == 0 else { throw .transport(operation: "start", during: "MPI", errorText(of: code)) }
      self.hosts = hosts.map(Int.init)
      let own = hosts[rank]
      pieces = hosts.map { piece ?? ($0 == own ? 1 << 30 : 61_440) }
      tags = TagLayout(largestTag: Int(moe_mpi_largest_tag()))
    }

    func start(_ exchange: Exchange) throws(TransportFault) -> any ExchangeInFlight {
      try exchange.copyOwnBlock()
      guard inFlight.count < tags.sequenceCount,
        let tag = tags.tag(
          context: exchange.id.context, sequence: exchange.id.sequence, stage: exchange.id.stage)
      else {
        throw .failed(
          "this MPI has tags for \(tags.sequenceCount) operations under way in each of \(tags.contextCount) groups"
        )
      }
      let started: MPIExchange
      do {
        started = try MPIExchange(exchange, tag: Int32(tag), transport: self)
      } catch {
        halfStarted.append(exchange)
        throw error
      }
      inFlight[ObjectIdentifier(started)] = started
      idleCount = 0
      return started
    }

    /// The largest message of MPI to and from a rank of the job, in bytes.
    func pieceBytes(_ member: Int) -> Int64 { pieces[member] }

    func complete(_ exchange: MPIExchange) {
      inFlight[ObjectIdentifier(exchange)] = nil
      idleCount = 0
    }

    func mark() -> UInt64 { 0 }

    /// Yields for a short while, which keeps the latency low, and then sleeps, which leaves the processor to other
    /// threads: MPI has no call that sleeps until a message comes.
    func idle(since mark: UInt64, until deadline: ContinuousClock.Instant) {
      idleCount += 1
      if idleCount < 200 { sched_yield() } else { usleep(idleCount < 2000 ? 50 : 500) }
    }

    /// `Execution.automatic()` may count the processors of the host or, with bound processes, those of this rank alone.
    func threadShare(of count: Int) -> Int {
      let local = hosts.indices.filter { hosts[$0] == hosts[rank] }
      let processors = sysconf(Int32(_SC_NPROCESSORS_ONLN))
      return min(
        count, evenShare(of: processors, forRank: local.firstIndex(of: rank)!, among: local.count))
    }

    var isEnding: Bool { moe_mpi_is_told_to_end() }

    func fail() { moe_mpi_will_not_finalize() }
  }
#endif
