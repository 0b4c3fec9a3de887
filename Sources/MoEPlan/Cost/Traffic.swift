/// Expected bytes and messages of one exchange, by rank.
struct Traffic {
  /// `[R]`: bytes that a rank receives from and sends to other ranks of its host.
  var insideIn: [Double]
  var insideOut: [Double]
  /// `[R]`: the same from and to other hosts.
  var betweenIn: [Double]
  var betweenOut: [Double]
  /// `[R]`: bytes that a rank has for itself, which are copied.
  var own: [Double]
  /// `[R]`: messages to other ranks of its host and of other hosts.
  var insideMessages: [Double]
  var betweenMessages: [Double]

  init(rankCount: Int) {
    let zeros = [Double](repeating: 0, count: rankCount)
    (insideIn, insideOut, betweenIn, betweenOut) = (zeros, zeros, zeros, zeros)
    (own, insideMessages, betweenMessages) = (zeros, zeros, zeros)
  }

  /// What every rank of a group sends to each rank that holds part p of the experts: `bytes[p]`. The way back is the
  /// same with in and out exchanged.
  static func toParts(_ bytes: [Double], _ topology: Topology) -> Traffic {
    var traffic = Traffic(rankCount: topology.rankCount)
    let size = Double(topology.split.groupSize)
    for group in 0..<topology.split.dataParallel {
      let segments = topology.segments(ofGroup: group)
      let sums = segments.map { $0.reduce(0) { $0 + bytes[topology.part($1)] } }
      let all = sums.reduce(0, +)
      for (segment, sum) in zip(segments, sums) {
        for rank in segment {
          let own = bytes[topology.part(rank)]
          let neighbours = Double(segment.count - 1)
          traffic.own[rank] = own
          traffic.insideOut[rank] = sum - own
          traffic.insideIn[rank] = own * neighbours
          traffic.betweenOut[rank] = all - sum
          traffic.betweenIn[rank] = own * (size - 1 - neighbours)
          traffic.insideMessages[rank] = neighbours
          traffic.betweenMessages[rank] = size - 1 - neighbours
        }
      }
    }
    return traffic
  }

  /// What every rank sends to each of its peers, so many ranks at this distance from one another: 1 for neighbours in
  /// blocks of `count`, a group's size for the ranks that hold the same experts.
  static func toPeers(_ bytes: Double, count: Int, distance: Int, _ topology: Topology) -> Traffic {
    var traffic = Traffic(rankCount: topology.rankCount)
    let width = topology.cluster.ranksPerHost
    for rank in 0..<topology.rankCount {
      let first = distance == 1 ? rank / count * count : rank % distance
      let host = topology.host(rank) * width
      // Peers first, first + distance, …, of which those in host ..< host + width are neighbours.
      func peersBelow(_ limit: Int) -> Int {
        limit <= first ? 0 : min((limit - first + distance - 1) / distance, count)
      }
      let neighbours = Double(peersBelow(host + width) - peersBelow(host) - 1)
      let others = Double(count - 1) - neighbours
      traffic.own[rank] = bytes
      traffic.insideOut[rank] = bytes * neighbours
      traffic.insideIn[rank] = bytes * neighbours
      traffic.betweenOut[rank] = bytes * others
      traffic.betweenIn[rank] = bytes * others
      traffic.insideMessages[rank] = neighbours
      traffic.betweenMessages[rank] = others
    }
    return traffic
  }

  /// The way back.
  var reversed: Traffic {
    var back = self
    swap(&back.insideIn, &back.insideOut)
    swap(&back.betweenIn, &back.betweenOut)
    return back
  }

  /// The same exchange with so many times the bytes.
  func scaled(_ factor: Double) -> Traffic {
    var scaled = self
    for bytes in [\Traffic.insideIn, \.insideOut, \.betweenIn, \.betweenOut, \.own] {
      scaled[keyPath: bytes] = self[keyPath: bytes].map { $0 * factor }
    }
    return scaled
  }

  /// Bytes that all ranks send to other ranks of their hosts, and to other hosts.
  var insideBytes: Double { insideOut.reduce(0, +) }
  var betweenBytes: Double { betweenOut.reduce(0, +) }
}
