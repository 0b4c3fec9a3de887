/// How rows go between hosts.
public enum Route: String, Sendable, Codable, CaseIterable {
  /// Each rank sends to each.
  case direct
  /// Of the n ranks of a host, that of index g mod n gathers what is for host g, exchanges it for what g has for this one,
  /// and deals that out: one message from each host to each other, for two more copies inside a host.
  case hierarchical
}

/// How long one exchange takes.
///
/// Between hosts a rank needs α for each message, ranks beside one another, and a host's link the larger of what goes in
/// and out over β: it carries both ways at once. Inside a host each rank copies what it receives, and what it has for
/// itself; copies of all ranks together run at the host's β, and take the cores' time.
struct ExchangeCost {
  /// `[groups]`: seconds on links between hosts until the last rank of a group has all.
  let network: [Double]
  /// `[R]`: seconds of a rank's cores.
  let copies: [Double]

  /// - Parameter route: that of each group.
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
          // What a rank has for hosts is about the same for each. It copies what its neighbours have for those that it
          // serves, and what came for itself by way of neighbours.
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

  /// Seconds of the exchange alone.
  var longest: Double { max(network.max() ?? 0, copies.max() ?? 0) }

  /// How many other hosts a rank serves, as the layer's exchange deals them out: host g goes to index g mod n.
  static func servedHosts(_ index: Int, of ranks: Int, on host: Int, hosts: Int) -> Int {
    let all = hosts > index ? (hosts - index + ranks - 1) / ranks : 0
    return host % ranks == index ? all - 1 : all
  }
}
