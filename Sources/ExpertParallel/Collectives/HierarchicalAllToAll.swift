extension Communicator {
  /// Starts an all-to-all in which one message goes from each host to each other: inside a host the ranks give what is for
  /// another host to the one of them that serves it, which sends it to the one there that serves this host, and that one
  /// deals it out (Rajbhandari et al. 2022, *DeepSpeed-MoE*, §5.2; He et al. 2022, *FasterMoE*). H·(H − 1) messages in place
  /// of those of all pairs of ranks on different hosts; the same bytes cross, and are copied twice inside each host.
  ///
  /// Where all ranks are on one host, or each on its own, it is ``startAllToAll(from:_:into:_:during:)``.
  ///
  /// - Parameters:
  ///   - source: what is sent; not to be written to before the request has completed.
  ///   - sent: the block for each rank, `[size]`.
  ///   - destination: what is received into; not to be touched before the request has completed.
  ///   - received: where the block of each rank goes, `[size]`.
  ///   - counts: the bytes that each rank sends each, `[size, size]`, source by source, the same on all ranks.
  ///   - activity: what the caller is doing, which errors name, such as "layer 3, forward".
  /// - Throws: `CommunicationError`, `.invalid` for blocks outside a buffer or other than `counts` says.
  public func startHierarchicalAllToAll(
    from source: MessageBuffer, _ sent: Blocks, into destination: MessageBuffer, _ received: Blocks,
    counts: [Int], during activity: String
  ) throws(CommunicationError) -> Request {
    try startHierarchicalAllToAll(
      from: source, sent, into: destination, received, counts: counts, hosts: group.hosts, during: activity)
  }

  /// The same with ranks taken as of other hosts, for tests, or at a place that was reserved.
  package func startHierarchicalAllToAll(
    from source: MessageBuffer, _ sent: Blocks, into destination: MessageBuffer, _ received: Blocks,
    counts: [Int], hosts: [Int], during activity: String, place: Int? = nil
  ) throws(CommunicationError) -> Request {
    let operation = "hierarchical all-to-all"
    let (rank, size) = (rank, size)
    if let misfit = sent.misfit(what: "what is sent", size: size, buffer: source)
      ?? received.misfit(what: "what is received", size: size, buffer: destination)
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
        "the \(counts.count) counts do not say what rank \(rank) of \(size) sends and receives")
    }
    let route = HostRoute(rank: rank, hosts: hosts, counts: counts)
    guard route.isOfUse else {
      return try start(
        "all-to-all", from: source, sent, into: destination, received, during: activity, place: place)
    }
    let gathering = Leg(route, route.gathered(from:to:))
    let crossing = Leg(route, route.crossing(from:to:))
    let dealing = Leg(route, route.dealt(from:to:))
    return try group.request(operation, during: activity, place: place) { plan in
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

/// One exchange of three: what each message carries, in buffers of its own.
private final class Leg {
  private let route: HostRoute
  private let outgoing: MessageBuffer
  private let incoming: MessageBuffer
  private let sent: Blocks
  private let received: Blocks
  private let sentPairs: [HostRoute.Pair]
  private var places: [HostRoute.Pair: Int] = [:]

  /// - Parameter pairs: what goes from one rank to another.
  init(_ route: HostRoute, _ pairs: (Int, Int) -> [HostRoute.Pair]) {
    self.route = route
    let outward = (0..<route.size).map { pairs(route.rank, $0) }
    let inward = (0..<route.size).map { pairs($0, route.rank) }
    func blocks(_ lists: [[HostRoute.Pair]]) -> Blocks {
      Blocks(rows: lists.map { $0.reduce(0) { $0 + route.byteCount($1) } }, bytesPerRow: 1)
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

  /// Puts in order what is sent.
  func fill(_ place: (HostRoute.Pair) -> (MessageBuffer, Int)) {
    var end = 0
    for pair in sentPairs {
      let (buffer, offset) = place(pair)
      outgoing.copy(route.byteCount(pair), from: buffer, at: offset, to: end)
      end += route.byteCount(pair)
    }
  }

  /// Where a block came to stand.
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
