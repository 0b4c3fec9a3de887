#if MPI
  import CCommunicator
  import Glibc

  /// The ranks of an MPI job (Open MPI), with the package trait `MPI`.
  ///
  /// One thread of the process at a time may call it (MPI_THREAD_SERIALIZED). MPI ends when the process exits. A
  /// process in which a communicator failed ends the whole job instead, because MPI_Finalize would wait for the missing
  /// ranks.
  public final class MPICommunicator: Communicator {
    /// The ranks, and the operations under way between them.
    public let group: CommunicatorGroup

    private init(group: CommunicatorGroup) { self.group = group }

    /// Returns the communicator of all ranks of the job that `mpirun` started, or of one rank without `mpirun`. Every
    /// call returns the same communicator; two threads must not use it at the same time.
    ///
    /// - Throws: `CommunicationError.transport` if MPI does not start or cannot be called from any thread.
    public static func world() throws(CommunicationError) -> MPICommunicator {
      try world(pieceBytes: nil)
    }

    /// Returns the communicator of ``world()`` with MPI messages of at most `pieceBytes` bytes, for tests of blocks
    /// that are cut.
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

    /// Makes a communicator over other ranks of the job.
    public func communicator(over group: CommunicatorGroup) -> MPICommunicator { .init(group: group) }

    /// Ends all ranks of the job by MPI_Abort.
    ///
    /// - Parameters:
    ///   - code: the exit code; 1 in place of 0.
    ///   - grace: the time to wait first, because MPI_Abort also ends ranks that have not reported yet.
    public func abort(code: Int32, after grace: Duration) -> Never {
      let (seconds, attoseconds) = grace.components
      var time = timespec(tv_sec: Int(seconds), tv_nsec: Int(attoseconds / 1_000_000_000))
      unsafe nanosleep(&time, nil)
      moe_mpi_abort(code == 0 ? 1 : code)
    }
  }
#endif
