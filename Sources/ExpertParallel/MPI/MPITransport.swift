#if MPI
  import CCommunicator
  import Glibc

  /// The ranks of an MPI job. There is one in a process, for as long as it runs.
  final class MPITransport: Transport {
    let rank: Int
    let size: Int
    let hosts: [Int]
    /// The largest message of MPI to and from a rank; longer blocks are cut.
    private let pieces: [Int64]
    private let tags: TagLayout
    /// MPI may write to the buffers of exchanges that failed, so those stay here.
    private var inFlight: [ObjectIdentifier: MPIExchange] = [:]
    private var halfStarted: [Exchange] = []
    private var idleCount = 0

    /// - Precondition: MPI has been initialised.
    ///
    /// - Parameter piece: the largest message; nil for what suits the way to each rank. Between hosts it is what Open MPI
    ///   sends over TCP without asking the receiver first (btl_tcp_eager_limit, 64 KiB with its header): an answer to such
    ///   a question has to wait behind all that is on its way in the other direction, and the link lies idle. Within a
    ///   host it is what MPI can count.
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

    /// The largest message of MPI to and from a rank of the job.
    func pieceBytes(_ member: Int) -> Int64 { pieces[member] }

    func complete(_ exchange: MPIExchange) {
      inFlight[ObjectIdentifier(exchange)] = nil
      idleCount = 0
    }

    func mark() -> UInt64 { 0 }

    /// MPI wakes nobody. A short while of giving way keeps the latency low, then naps leave the processor to others.
    func idle(since mark: UInt64, until deadline: ContinuousClock.Instant) {
      idleCount += 1
      if idleCount < 200 { sched_yield() } else { usleep(idleCount < 2000 ? 50 : 500) }
    }

    var isEnding: Bool { moe_mpi_is_told_to_end() }

    func fail() { moe_mpi_will_not_finalize() }
  }
#endif
