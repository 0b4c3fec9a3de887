/// The ranks that a communicator connects, as one of them sees them.
///
/// It is public because ``Communicator`` names it, and opaque to users: ``Communicator/split(color:key:during:)`` makes
/// groups.
public final class CommunicatorGroup {
  /// The numbers of the ranks in the job, by their rank in the group.
  package let members: [Int]
  /// This rank within the group.
  package let rank: Int
  /// The host of each rank, by rank in the group. Hosts are numbered from 0 in the order of their first ranks.
  package let hosts: [Int]
  /// The time that operations wait for other ranks.
  package var timeout: Duration
  let engine: ProgressEngine
  private let context: Int
  private var sequence: Int
  /// The end of the group's places.
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

  /// Makes the group of all ranks of a transport.
  convenience init(transport: any Transport, timeout: Duration) {
    self.init(
      engine: ProgressEngine(transport: transport), context: 0, members: Array(0..<transport.size),
      rank: transport.rank, timeout: timeout)
  }

  /// Starts the next operation of the group.
  ///
  /// All ranks start the same operations in the same order. So each rank counts them and gets the same number, which is
  /// the operation's place; the exchanges of one operation differ in their stage.
  ///
  /// - Parameters:
  ///   - operation: the kind of operation.
  ///   - activity: what the caller is doing, which errors name.
  ///   - place: a place from ``reserve(_:)``, for an operation that each rank starts in its own order; nil for the next
  ///     place.
  ///   - stages: makes the stages of the operation.
  func request(
    _ operation: String, during activity: String, at place: Int? = nil, _ stages: (Plan) -> [Request.Stage]
  ) throws(CommunicationError) -> Request {
    if let failure = engine.failure { throw failure }
    let place = place ?? reserve(1)
    let plan = Plan(group: self, operation: operation, context: context, sequence: place)
    return try Request(
      operation: operation, during: activity, timeout: timeout, engine: engine, stages: stages(plan))
  }

  /// Reserves the places of the next `count` operations, which each rank may then start in its own order.
  ///
  /// - Returns: the first of the places.
  func reserve(_ count: Int) -> Int {
    precondition(sequence + count <= end, "more operations than the group has")
    defer { sequence += count }
    return sequence
  }

  /// Makes a group of some of the ranks, which takes the places of this group's next `operations` operations, so that
  /// no exchange is needed. All ranks of this group call it.
  ///
  /// - Parameters:
  ///   - ranks: the ranks of the new group, in its order.
  ///   - operations: the number of operations that the new group may start.
  /// - Returns: the new group; nil on ranks that are not in it.
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

    /// Makes the exchange of a stage, with blocks that have been checked.
    ///
    /// - Parameters:
    ///   - stage: the number of the exchange within the operation.
    ///   - source: the memory that is sent.
    ///   - sent: the block for each rank.
    ///   - destination: the memory that is received into.
    ///   - received: where the block of each rank goes.
    ///   - isPeer: whether this rank exchanges with another rank. Both must agree. Only the blocks of peers travel.
    func exchange(
      _ stage: Int, from source: MessageBuffer, _ sent: BlockLayout, into destination: MessageBuffer,
      _ received: BlockLayout, with isPeer: (Int) -> Bool = { _ in true }
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
