#if MPI
  import CCommunicator
  import Glibc

  /// The ranks of an MPI job (Open MPI), with the package trait `MPI`.
  ///
  /// One thread of the process may be in its calls at a time (MPI_THREAD_SERIALIZED). MPI ends when the process exits; a
  /// process in which a communicator failed ends the whole job instead, for MPI_Finalize would wait for ranks that
  /// are missing.
  public final class MPICommunicator: Communicator {
    /// The ranks and what is under way between them.
    public let group: CommunicatorGroup

    private init(group: CommunicatorGroup) { self.group = group }

    /// All ranks of the job that `mpirun` started, or one rank without it. It is the same for every call; the process
    /// must not have it on two threads at once.
    ///
    /// - Throws: `CommunicationError.transport` where MPI does not start or does not let any thread call it.
    public static func world() throws(CommunicationError) -> MPICommunicator {
      try world(pieceBytes: nil)
    }

    /// Messages of MPI of at most so many bytes, for tests of blocks that are cut.
    package static func world(pieceBytes: Int64?) throws(CommunicationError) -> MPICommunicator {
      if let shared = unsafe shared { return shared }
      let code = moe_mpi_initialize()
      guard code == 0 else {
        throw .transport(operation: "start", during: "MPI", errorText(of: code))
      }
      let transport = try MPITransport(piece: pieceBytes)
      let world = MPICommunicator(group: CommunicatorGroup(transport: transport, timeout: .seconds(60)))
      unsafe shared = world
      return world
    }

    private nonisolated(unsafe) static var shared: MPICommunicator?

    /// The same kind of communicator over other ranks.
    public func communicator(over group: CommunicatorGroup) -> MPICommunicator { .init(group: group) }

    /// Ends all ranks of the job by MPI_Abort.
    ///
    /// - Parameters:
    ///   - code: the exit code, in place of which 0 gives 1.
    ///   - grace: how long to wait first, for MPI_Abort also ends the ranks that have not reported yet.
    public func abort(code: Int32, after grace: Duration) -> Never {
      let (seconds, attoseconds) = grace.components
      var time = timespec(tv_sec: Int(seconds), tv_nsec: Int(attoseconds / 1_000_000_000))
      unsafe nanosleep(&time, nil)
      moe_mpi_abort(code == 0 ? 1 : code)
    }
  }
#endif
