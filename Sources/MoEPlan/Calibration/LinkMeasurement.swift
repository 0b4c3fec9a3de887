package import ExpertParallel

/// Measures α and β of the links between the ranks of a communicator.
package enum LinkMeasurement {
  /// Times exchanges in which every rank sends equal numbers of bytes to all ranks: α from empty ones, β from ones of
  /// 8 MiB per rank. A collective.
  ///
  /// - Returns: seconds per message of a rank, and bytes per second of all ranks together, including the bytes that a
  ///   rank copies to itself; equal on all ranks. With one rank there is no link to measure.
  package static func measure(over communicator: any Communicator) throws -> Link {
    let (size, bytesPerRank, repetitions) = (communicator.size, 8 << 20, 10)
    func exchange(_ bytes: Int, count: Int) throws -> Double {
      let blocks = BlockLayout(rows: [Int](repeating: bytes, count: size), bytesPerRow: 1)
      let source = MessageBuffer(byteCount: bytes * size)
      let destination = MessageBuffer(byteCount: bytes * size)
      var times: [Double] = []
      for _ in 0...count {
        try communicator.barrier(during: "calibration")
        let start = Stopwatch.now()
        try communicator.startAllToAll(
          from: source, blocks, into: destination, blocks, during: "calibration"
        ).wait()
        try communicator.barrier(during: "calibration")
        times.append(Stopwatch.now() - start)
      }
      return try communicator.broadcast(
        [Stopwatch.median(Array(times.dropFirst()))], root: 0, during: "calibration")[0]
    }
    // An empty exchange and the barrier after it each take one message per peer.
    let empty = try exchange(0, count: 50 * repetitions) / 2
    let block = bytesPerRank / size
    let full = try exchange(block, count: repetitions) - 2 * empty
    return Link(
      latency: empty / Double(max(size - 1, 1)), bandwidth: Double(block * size * size) / max(full, 1e-9))
  }
}

extension Link {
  /// Returns the link of one host, from a measurement over one rank of each host. All hosts together moved H² blocks;
  /// one host sends H − 1 of them to other hosts.
  package func crossing(hosts: Int) -> Link {
    let count = Double(hosts)
    return Link(latency: latency, bandwidth: bandwidth * (count - 1) / (count * count))
  }
}
