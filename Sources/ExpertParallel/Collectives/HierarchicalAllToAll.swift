extension Communicator {
  /// Starts an all-to-all in which one message goes from each host to each other host.
  ///
  /// For each other host, one rank of a host is the server. The ranks of the host send it their blocks for the other
  /// host; it sends them in one message to its counterpart there, which sends each block to its rank (Rajbhandari et
  /// al. 2022, *DeepSpeed-MoE*, §5.2; He et al. 2022, *FasterMoE*). So H·(H − 1) messages cross between hosts in place
  /// of one for each pair of ranks on different hosts. As many bytes cross, and they are copied twice inside each host.
  ///
  /// If all ranks are on one host, or each rank is alone on a host, this calls
  /// ``startAllToAll(from:_:into:_:during:)``.
  ///
  /// - Parameters:
  ///   - source: the memory that is sent; it must not be written to before the request has completed.
  ///   - sent: `[size]`: the block for each rank.
  ///   - destination: the memory that is received into; it must not be touched before the request has completed.
  ///   - received: `[size]`: where the block of each rank goes.
  ///   - counts: `[size, size]`: the bytes that each rank sends to each, source by source, the same on all ranks.
  ///   - activity: what the caller is doing, which errors name.
  /// - Throws: `CommunicationError`; `.invalid` for blocks outside a buffer, or of other sizes than `counts` says.
  package func startHierarchicalAllToAll(
    from source: MessageBuffer, _ sent: BlockLayout, into destination: MessageBuffer, _ received: BlockLayout,
    counts: [Int], during activity: String
  ) throws(CommunicationError) -> Request {
    try startHierarchicalAllToAll(
      from: source, sent, into: destination, received, counts: counts, hosts: group.hosts, during: activity)
  }

  /// Starts a hierarchical all-to-all with given hosts of the ranks, for tests, or at a reserved place.
  package func startHierarchicalAllToAll(
    from source: MessageBuffer, _ sent: BlockLayout, into destination: MessageBuffer, _ received: BlockLayout,
    counts: [Int], hosts: [Int], during activity: String, at place: Int? = nil
  ) throws(CommunicationError) -> Request {
    let operation = "hierarchical all-to-all"
    let (rank, size) = (rank, size)
    if let misfit = sent.misfit(what: "the message", size: size, buffer: source)
      ?? received.misfit(what: "the message received", size: size, buffer: destination)
    {
      throw .invalid(operation: operation, during: activity, misfit)
    }
    guard counts.count == size * size,
      (0..<size).allSatisfy({
        sent.counts[$0] == counts[rank * size + $0] && received.counts[$0] == counts[$0 * size + rank]
      })
    else {
      throw .invalid(
        operation: operation, during: activity,
        "the \(counts.count) counts are not those of the blocks that rank \(rank) of \(size) sends and receives"
      )
    }
    let route = HostRoute(rank: rank, hosts: hosts, counts: counts)
    guard route.isOfUse else {
      return try start(
        "all-to-all", from: source, sent, into: destination, received, during: activity, at: place)
    }
    let gathering = Leg(route, route.gathered(from:to:))
    let crossing = Leg(route, route.crossing(from:to:))
    let dealing = Leg(route, route.dealt(from:to:))
    return try group.request(operation, during: activity, at: place) { plan in
      [
        {
          gathering.fill { (source, sent.offsets[$0.destination]) }
          return gathering.exchange(0, of: plan, with: route.isLocal)
        },
        {
          crossing.fill(gathering.place(of:))
          return crossing.exchange(1, of: plan, with: route.isPartner)
        },
        {
          dealing.fill(crossing.place(of:))
          return dealing.exchange(2, of: plan, with: route.isLocal)
        },
        {
          for other in 0..<size {
            let pair = HostRoute.Pair(source: other, destination: rank)
            let (buffer, place) = (route.isLocal(other) ? gathering : dealing).place(of: pair)
            destination.copy(route.byteCount(pair), from: buffer, at: place, to: received.offsets[other])
          }
          return nil
        },
      ]
    }
  }
}

/// One of the three exchanges: the blocks that each message carries, in buffers of the exchange.
private final class Leg {
  private let route: HostRoute
  private let outgoing: MessageBuffer
  private let incoming: MessageBuffer
  private let sent: BlockLayout
  private let received: BlockLayout
  private let sentPairs: [HostRoute.Pair]
  private var places: [HostRoute.Pair: Int] = [:]

  /// - Parameters:
  ///   - route: the way of each block.
  ///   - pairs: the blocks in the message from one rank to another.
  init(_ route: HostRoute, _ pairs: (Int, Int) -> [HostRoute.Pair]) {
    self.route = route
    let outward = (0..<route.size).map { pairs(route.rank, $0) }
    let inward = (0..<route.size).map { pairs($0, route.rank) }
    func blocks(_ lists: [[HostRoute.Pair]]) -> BlockLayout {
      BlockLayout(rows: lists.map { $0.reduce(0) { $0 + route.byteCount($1) } }, bytesPerRow: 1)
    }
    (sent, received) = (blocks(outward), blocks(inward))
    sentPairs = Array(outward.joined())
    outgoing = MessageBuffer(byteCount: sent.counts.reduce(0, +))
    incoming = MessageBuffer(byteCount: received.counts.reduce(0, +))
    var place = 0
    for pair in inward.joined() {
      places[pair] = place
      place += route.byteCount(pair)
    }
  }

  /// Copies the blocks to be sent into their messages.
  ///
  /// - Parameter place: the buffer and the position from which a block is copied.
  func fill(_ place: (HostRoute.Pair) -> (MessageBuffer, Int)) {
    var end = 0
    for pair in sentPairs {
      let (buffer, offset) = place(pair)
      outgoing.copy(route.byteCount(pair), from: buffer, at: offset, to: end)
      end += route.byteCount(pair)
    }
  }

  /// Returns the buffer and the position of a received block.
  func place(of pair: HostRoute.Pair) -> (MessageBuffer, Int) { (incoming, places[pair]!) }

  func exchange(
    _ stage: Int, of plan: CommunicatorGroup.Plan, with isPeer: (Int) -> Bool
  ) -> Exchange {
    plan.exchange(stage, from: outgoing, sent, into: incoming, received, with: isPeer)
  }
}

extension MessageBuffer {
  fileprivate func copy(_ count: Int, from source: MessageBuffer, at offset: Int, to place: Int) {
    if count > 0 { unsafe (base + place).copyMemory(from: source.base + offset, byteCount: count) }
  }
}
