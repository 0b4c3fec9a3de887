/// The ranks that a communicator connects, as seen by one of them.
public final class CommunicatorGroup {
  /// The ranks of the job, by their rank in the group.
  public let members: [Int]
  /// This rank within the group.
  public let rank: Int
  /// The hosts of the ranks, by their rank in the group: numbered from 0 in the order in which ranks are first on them.
  public let hosts: [Int]
  /// How long operations wait.
  public var timeout: Duration
  let engine: ProgressEngine
  private let context: Int
  private var sequence: Int
  /// The first place that is not the group's.
  private let end: Int

  init(
    engine: ProgressEngine, context: Int, members: [Int], rank: Int, timeout: Duration,
    operations: Range<Int> = 0..<Int.max
  ) {
    self.engine = engine
    self.context = context
    self.members = members
    self.rank = rank
    self.timeout = timeout
    hosts = HostRoute.numbered(members.map { engine.transport.hosts[$0] })
    sequence = operations.lowerBound
    end = operations.upperBound
    engine.nextContext = max(engine.nextContext, context + 1)
  }

  /// All ranks of a transport.
  convenience init(transport: any Transport, timeout: Duration) {
    self.init(
      engine: ProgressEngine(transport: transport), context: 0, members: Array(0..<transport.size),
      rank: transport.rank, timeout: timeout)
  }

  /// Starts the next operation of the group.
  ///
  /// All ranks start the same operations in the same order, so that counting gives each the same number everywhere;
  /// its exchanges are told apart by their stage.
  ///
  /// - Parameter place: one of ``reserve(_:)``, for an operation that ranks may start in another order.
  func request(
    _ operation: String, during activity: String, place: Int? = nil, _ stages: (Plan) -> [Request.Stage]
  ) throws(CommunicationError) -> Request {
    if let failure = engine.failure { throw failure }
    let place = place ?? reserve(1)
    let plan = Plan(group: self, operation: operation, context: context, sequence: place)
    return try Request(
      operation: operation, during: activity, timeout: timeout, engine: engine, stages: stages(plan))
  }

  /// The places of the next operations, which each rank may then start in an order of its own.
  func reserve(_ count: Int) -> Int {
    precondition(sequence + count <= end, "more operations than the group has")
    defer { sequence += count }
    return sequence
  }

  /// Some of the ranks as a group that has this one's next `operations` to itself, without any exchange; nil on other
  /// ranks, which call this too.
  ///
  /// - Parameter ranks: those of the new group, in its order.
  func group(of ranks: [Int], operations: Int) -> CommunicatorGroup? {
    let first = reserve(operations)
    return ranks.firstIndex(of: rank).map {
      CommunicatorGroup(
        engine: engine, context: context, members: ranks.map { members[$0] }, rank: $0, timeout: timeout,
        operations: first..<first + operations)
    }
  }

  /// Makes the exchanges of one operation.
  struct Plan {
    private let operation: String
    private let context: Int
    private let sequence: Int
    private let members: [Int]
    private let rank: Int

    fileprivate init(group: CommunicatorGroup, operation: String, context: Int, sequence: Int) {
      self.operation = operation
      self.context = context
      self.sequence = sequence
      members = group.members
      rank = group.rank
    }

    /// The exchange of a stage; its blocks have been checked.
    ///
    /// - Parameter isPeer: whether this rank exchanges with another, which has to agree; only blocks of peers travel.
    func exchange(
      _ stage: Int, from source: MessageBuffer, _ sent: Blocks, into destination: MessageBuffer,
      _ received: Blocks, with isPeer: (Int) -> Bool = { _ in true }
    ) -> Exchange {
      precondition(stage < ExchangeID.stageLimit)
      return Exchange(
        operation: operation, id: ExchangeID(context: context, sequence: sequence, stage: stage),
        members: members, rank: rank, source: source, sent: sent, destination: destination,
        received: received,
        peers: (1..<max(members.count, 1)).map { (rank + $0) % members.count }.filter(isPeer))
    }
  }
}
