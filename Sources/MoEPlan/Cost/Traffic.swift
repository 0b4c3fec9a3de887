/// The expected bytes and messages of one exchange, for each rank.
struct Traffic {
  /// `[R]`: the bytes that a rank receives from other ranks of its host, and sends to them.
  var insideIn: [Double]
  var insideOut: [Double]
  /// `[R]`: the bytes that a rank receives from other hosts, and sends to them.
  var betweenIn: [Double]
  var betweenOut: [Double]
  /// `[R]`: the bytes that a rank keeps, which it copies.
  var own: [Double]
  /// `[R]`: the messages of a rank to other ranks of its host, and to ranks of other hosts.
  var insideMessages: [Double]
  var betweenMessages: [Double]

  init(rankCount: Int) {
    let zeros = [Double](repeating: 0, count: rankCount)
    (insideIn, insideOut, betweenIn, betweenOut) = (zeros, zeros, zeros, zeros)
    (own, insideMessages, betweenMessages) = (zeros, zeros, zeros)
  }

  /// Returns the traffic if every rank of a group sends `bytes[p]` to each rank that holds part p of the experts. The
  /// traffic back is ``reversed``.
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

  /// Returns the traffic if every rank sends `bytes` to each of its peers.
  ///
  /// - Parameters:
  ///   - count: the number of ranks that are peers of one another.
  ///   - distance: the difference of consecutive peers: 1 for blocks of `count` neighbours, a group's size for the
  ///     ranks that hold the same experts.
  static func toPeers(_ bytes: Double, count: Int, distance: Int, _ topology: Topology) -> Traffic {
    var traffic = Traffic(rankCount: topology.rankCount)
    let width = topology.cluster.ranksPerHost
    for rank in 0..<topology.rankCount {
      let first = distance == 1 ? rank / count * count : rank % distance
      let host = topology.host(rank) * width
      // The peers are first, first + distance, …; those in host ..< host + width are on this rank's host.
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

  /// The traffic back: incoming and outgoing bytes exchanged.
  var reversed: Traffic {
    var back = self
    swap(&back.insideIn, &back.insideOut)
    swap(&back.betweenIn, &back.betweenOut)
    return back
  }

  /// Returns the exchange with all bytes multiplied by `factor`.
  func scaled(_ factor: Double) -> Traffic {
    var scaled = self
    for bytes in [\Traffic.insideIn, \.insideOut, \.betweenIn, \.betweenOut, \.own] {
      scaled[keyPath: bytes] = self[keyPath: bytes].map { $0 * factor }
    }
    return scaled
  }

  /// The bytes that all ranks send to other ranks of their hosts, and to other hosts.
  var insideBytes: Double { insideOut.reduce(0, +) }
  var betweenBytes: Double { betweenOut.reduce(0, +) }
}
