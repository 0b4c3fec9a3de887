/// How rows go between hosts.
public enum Route: String, Sendable, Codable, CaseIterable {
  /// Each rank sends to each.
  case direct
  /// Ranks of a host give what is for other hosts to one of them, hosts exchange, and that one deals out what came:
  /// as many messages as hosts, for two more copies inside a host.
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

  /// The faster of the routes that `routes` allows.
  static func fastest(_ traffic: Traffic, _ topology: Topology, routes: [Route] = Route.allCases) -> (
    ExchangeCost, Route
  ) {
    let costs = routes.map { (ExchangeCost(traffic, topology, route: $0), $0) }
    return costs.min { $0.0.longest < $1.0.longest }!
  }

  init(_ traffic: Traffic, _ topology: Topology, route: Route = .direct) {
    let cluster = topology.cluster
    var inside = zip(traffic.insideIn, traffic.own).map(+)
    var insideMessages = traffic.insideMessages
    var betweenMessages = traffic.betweenMessages
    if route == .hierarchical {
      for group in 0..<topology.split.dataParallel {
        let segments = topology.segments(ofGroup: group)
        for segment in segments {
          let others = Double(segments.count - 1)
          // The first rank of the host copies what the others have for elsewhere, each other one what came for it.
          for rank in segment {
            betweenMessages[rank] = rank == segment.lowerBound ? others : 0
            guard rank > segment.lowerBound, others > 0 else { continue }
            inside[segment.lowerBound] += traffic.betweenOut[rank]
            inside[rank] += traffic.betweenIn[rank]
            insideMessages[rank] += 1
            insideMessages[segment.lowerBound] += 1
          }
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

  /// Seconds of a group's exchange alone.
  func longest(_ group: Int, _ topology: Topology) -> Double {
    topology.ranks(ofGroup: group).reduce(network[group]) { max($0, copies[$1]) }
  }
}
