/// A group of ranks that exchange data: the same calls in the same order on each of them.
///
/// Every operation is collective and completes on a rank only when all ranks of the group have entered it. Each waits at
/// most ``timeout`` and then throws which ranks were missing; it never hangs. The `during` of a call says in
/// that message what the caller was doing, such as "layer 3, forward"; ranks need not agree on it.
///
/// A communicator, and all that were split from the same one, belong to one thread at a time. Operations whose name
/// begins with `start` return at once; they make progress while anything of the rank is waited for or tested, and by
/// ``poll()``.
///
/// What is computed has the same bits on every rank, over every transport and for any timing.
public protocol Communicator: AnyObject {
  /// The ranks and what is under way between them.
  var group: CommunicatorGroup { get }
  /// The same kind of communicator over other ranks.
  func communicator(over group: CommunicatorGroup) -> Self
  /// Ends the whole job with an exit code other than 0, after giving the other ranks the time to say what they miss.
  func abort(code: Int32, after grace: Duration) -> Never
}

extension Communicator {
  /// This rank, 0 to ``size`` − 1.
  public var rank: Int { group.rank }
  /// The number of ranks.
  public var size: Int { group.members.count }
  /// The number of this group's ranks that are on the host of this one.
  public var ranksOnThisHost: Int { group.hosts.count { $0 == group.hosts[rank] } }
  /// This rank among those on its host, from 0.
  public var rankOnThisHost: Int { group.hosts[..<rank].count { $0 == group.hosts[rank] } }
  /// Whether data travels while the processors compute, over a network between hosts, rather than being copied by them.
  public var transfersBesideComputation: Bool { Set(group.hosts).count > 1 }
  /// How long an operation waits for other ranks before it throws; 60 s unless set. Requests keep what was set when
  /// they were started.
  public var timeout: Duration {
    get { group.timeout }
    set { group.timeout = newValue }
  }

  /// How long an operation still waits for other ranks once the job ``isEnding``; 0 s unless set, for all groups of the
  /// rank. `mpirun` leaves about a second to ranks that outlive another one.
  public var grace: Duration {
    get { group.engine.grace }
    set { group.engine.grace = newValue }
  }

  /// Whether the job was told to end from outside, as `mpirun` does at Ctrl-C or when a rank has died.
  public var isEnding: Bool { group.engine.transport.isEnding }

  /// How long this rank has waited for requests so far, in all groups.
  public var waitingTime: Duration { group.engine.waitingTime }

  /// Makes progress with all requests of this rank, without waiting; to be called several times a millisecond from
  /// computations that go on beside them. A failure is thrown by the next operation, test or wait.
  public func poll() { group.engine.progress() }

  /// Ends the whole job with an exit code other than 0, a second later, so that all ranks can say what they miss.
  public func abort(code: Int32) -> Never { abort(code: code, after: .seconds(1)) }

  /// Divides the ranks into groups, as for expert × data × tensor parallelism.
  ///
  /// - Parameters:
  ///   - color: the group to belong to, at least 0; nil for none.
  ///   - key: the ranks of a group are ordered by key, and by their rank here where keys are equal.
  ///   - activity: what the caller is doing, which errors name, such as "layer 3, forward".
  /// - Returns: the group's communicator, nil without a color. It has this one's timeout.
  /// - Throws: `CommunicationError`.
  public func split(color: Int?, key: Int = 0, during activity: String) throws(CommunicationError) -> Self? {
    let operation = "split"
    if let color, color < 0 {
      throw .invalid(operation: operation, during: activity, "the color is \(color), expected at least 0")
    }
    let buffer = MessageBuffer([color ?? -1, key, group.engine.nextContext])
    let row = buffer.byteCount
    let all = MessageBuffer(byteCount: row * size)
    let blocks = Blocks(rows: [Int](repeating: 1, count: size), bytesPerRow: row)
    let size = size
    try group.request(operation, during: activity) { plan in
      [{ plan.exchange(0, from: buffer, .same(row, for: size), into: all, blocks) }]
    }.wait()
    let rows = all.elements(of: Int.self)
    // One number serves all new groups, as no rank is in two of them; it is new to each of their ranks.
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
