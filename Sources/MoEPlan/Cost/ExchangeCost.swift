/// The route of rows between hosts.
public enum Route: String, Sendable, Codable, CaseIterable {
  /// Each rank sends to each other rank.
  case direct
  /// Of the n ranks of a host, the one with index g mod n gathers the rows for host g, exchanges them for the rows
  /// that come from host g, and hands those out. Each host sends one message to each other host, at the price of two
  /// more copies inside a host.
  case hierarchical
}

/// The time of one exchange.
///
/// Between hosts, a rank needs α per message, and ranks work at the same time. A host's link carries both directions
/// at once, so it needs the larger of its incoming and outgoing bytes over β. Inside a host, each rank copies the
/// bytes that it receives and the bytes that it keeps. The copies of all ranks together run at the host's β, and take
/// the time of its cores.
struct ExchangeCost {
  /// `[groups]`: seconds on links between hosts until the last rank of a group has all its bytes.
  let network: [Double]
  /// `[R]`: seconds of a rank's cores for copies.
  let copies: [Double]

  /// - Parameter route: the route of a group, from its index.
  init(_ traffic: Traffic, _ topology: Topology, route: (Int) -> Route = { _ in .direct }) {
    let cluster = topology.cluster
    var inside = zip(traffic.insideIn, traffic.own).map(+)
    var insideMessages = traffic.insideMessages
    var betweenMessages = traffic.betweenMessages
    for group in 0..<topology.split.dataParallel where route(group) == .hierarchical {
      let segments = topology.segments(ofGroup: group)
      let others = Double(segments.count - 1)
      for (place, segment) in segments.enumerated() where others > 0 {
        let (out, input) = (
          segment.reduce(0) { $0 + traffic.betweenOut[$1] }, segment.reduce(0) { $0 + traffic.betweenIn[$1] }
        )
        for (index, rank) in segment.enumerated() {
          let served = Self.servedHosts(index, of: segment.count, on: place, hosts: segments.count)
          // A rank has about as many bytes for each host. It copies the bytes that its neighbours have for the hosts
          // that it serves, and the bytes that its neighbours received for it.
          let share = Double(served) / others
          inside[rank] += share * (out - traffic.betweenOut[rank]) + (1 - share) * traffic.betweenIn[rank]
          betweenMessages[rank] = Double(served)
          if served > 0 && input > 0 { insideMessages[rank] += Double(segment.count - 1) }
        }
      }
    }
    var hosts: [Double] = []
    hosts.reserveCapacity(cluster.hostCount)
    for host in 0..<cluster.hostCount {
      let ranks = host * cluster.ranksPerHost..<(host + 1) * cluster.ranksPerHost
      var (input, output, messages) = (0.0, 0.0, 0.0)
      for rank in ranks {
        input += traffic.betweenIn[rank]
        output += traffic.betweenOut[rank]
        messages = max(messages, betweenMessages[rank])
      }
      hosts.append(messages * cluster.link.latency + max(input, output) / cluster.link.bandwidth)
    }
    network = (0..<topology.split.dataParallel).map { group in
      topology.hosts(ofGroup: group).reduce(0) { max($0, hosts[$1]) }
    }
    let turns = topology.serial(cluster.intra.latency)
    copies = zip(topology.elapsed(inside.map { $0 / cluster.intra.bandwidth }), insideMessages).map {
      $0 + turns * $1
    }
  }

  /// Seconds of the exchange if nothing is computed beside it.
  var longest: Double { max(network.max() ?? 0, copies.max() ?? 0) }

  /// Returns how many other hosts a rank serves: in the layer's exchange, index g mod n serves host g.
  ///
  /// - Parameters:
  ///   - index: the rank's index on its host.
  ///   - ranks: n, the ranks of its host.
  ///   - host: the index of its host.
  ///   - hosts: the hosts of the group.
  static func servedHosts(_ index: Int, of ranks: Int, on host: Int, hosts: Int) -> Int {
    let all = hosts > index ? (hosts - index + ranks - 1) / ranks : 0
    return host % ranks == index ? all - 1 : all
  }
}
