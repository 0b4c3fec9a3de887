public import MoE
public import MoECore

/// A group of ranks that exchange data: all ranks make the same calls in the same order.
///
/// Every operation is a collective and completes on a rank only when all ranks of the group have entered it. An
/// operation waits at most for ``timeout`` and then throws an error that names the missing ranks; it never hangs. The
/// error also names the argument `during` of the call: what the caller was doing, such as "layer 3, forward". Ranks
/// need not agree on it.
///
/// One thread at a time may use a communicator and all communicators split from it. An operation whose name begins with
/// `start` returns at once. It makes progress while the rank waits for or tests any request, and when ``poll()`` is
/// called.
///
/// A result has the same bits on every rank, over every transport and for any timing.
public protocol Communicator: AnyObject {
  /// The ranks, and the operations under way between them.
  var group: CommunicatorGroup { get }
  /// Makes the same kind of communicator over other ranks.
  func communicator(over group: CommunicatorGroup) -> Self
  /// Ends the whole job with an exit code other than 0.
  ///
  /// - Parameters:
  ///   - code: the exit code; 1 in place of 0.
  ///   - grace: the time to wait first, so that the other ranks can report the rank that they miss.
  func abort(code: Int32, after grace: Duration) -> Never
}

extension Communicator {
  /// This rank, 0 to ``size`` − 1.
  public var rank: Int { group.rank }
  /// The number of ranks.
  public var size: Int { group.members.count }
  /// The host of each rank. Hosts are numbered from 0, in the order of their first ranks.
  public var hosts: [Int] { group.hosts }
  /// The number of this group's ranks on the host of this rank.
  package var ranksOnThisHost: Int { group.hosts.count { $0 == group.hosts[rank] } }
  /// The place of this rank among the group's ranks on its host, from 0.
  package var rankOnThisHost: Int { group.hosts[..<rank].count { $0 == group.hosts[rank] } }
  /// Whether data travels over a network between hosts, while the processors compute, rather than being copied by them.
  package var transfersBesideComputation: Bool { Set(group.hosts).count > 1 }
  /// The time that an operation waits for other ranks before it throws; 60 s unless set. A request keeps the value that
  /// was set when it was started.
  public var timeout: Duration {
    get { group.timeout }
    set { group.timeout = newValue }
  }

  /// The time that an operation still waits for other ranks after the job was told to end; 0 s unless set. It holds for
  /// all groups of the rank. `mpirun` leaves about a second to ranks that outlive another rank.
  package var grace: Duration {
    get { group.engine.grace }
    set { group.engine.grace = newValue }
  }

  /// Whether the job was told to end from outside, as `mpirun` does at Ctrl-C or when a rank has died.
  package var isEnding: Bool { group.engine.transport.isEnding }

  /// The time that this rank has waited for requests so far, in all groups.
  package var waitingTime: Duration { group.engine.waitingTime }

  /// Makes progress with all requests of this rank, without waiting. A computation that runs beside the requests should
  /// call it several times per millisecond. The next operation or wait throws a failure.
  public func poll() { group.engine.progress() }

  /// Returns this rank's share of the threads of an execution, at least one: the ranks on one host share its
  /// processors.
  ///
  /// - Parameter execution: an execution with the threads of the whole host, such as `Execution.automatic()`.
  public func share(of execution: Execution) throws(MoEError) -> Execution {
    try Execution(
      instructionSet: execution.instructionSet,
      threadCount: group.engine.transport.threadShare(of: execution.threadCount))
  }

  /// Ends the whole job with an exit code other than 0 after a second, so that all ranks can report the rank that they
  /// miss.
  public func abort(code: Int32) -> Never { abort(code: code, after: .seconds(1)) }

  /// Divides the ranks into groups, as for expert × data × tensor parallelism.
  ///
  /// - Parameters:
  ///   - color: the new group of this rank, at least 0; nil for none.
  ///   - key: the ranks of a group are ordered by key, and ranks of equal keys by their rank here.
  ///   - activity: what the caller is doing, which errors name, such as "layer 3, forward".
  /// - Returns: the communicator of the new group, with this one's timeout; nil without a color.
  /// - Throws: `CommunicationError`.
  public func split(color: Int?, key: Int = 0, during activity: String) throws(CommunicationError) -> Self? {
    let operation = "split"
    if let color, color < 0 {
      throw .invalid(operation: operation, during: activity, "the color is \(color), expected at least 0")
    }
    let buffer = MessageBuffer([color ?? -1, key, group.engine.nextContext])
    let row = buffer.byteCount
    let all = MessageBuffer(byteCount: row * size)
    let blocks = BlockLayout(rows: [Int](repeating: 1, count: size), bytesPerRow: row)
    let size = size
    try group.request(operation, during: activity) { plan in
      [{ plan.exchange(0, from: buffer, .same(row, for: size), into: all, blocks) }]
    }.wait()
    let rows = all.elements(of: Int.self)
    // All new groups share one number, because no rank is in two of them. No rank has used this number yet.
    let context = (0..<size).map { rows[3 * $0 + 2] }.max()!
    group.engine.nextContext = context + 1
    guard let color else { return nil }
    let members = (0..<size).filter { rows[3 * $0] == color }.sorted {
      (rows[3 * $0 + 1], $0) < (rows[3 * $1 + 1], $1)
    }
    return communicator(
      over: CommunicatorGroup(
        engine: group.engine, context: context, members: members.map { group.members[$0] },
        rank: members.firstIndex(of: rank)!, timeout: timeout))
  }
}
