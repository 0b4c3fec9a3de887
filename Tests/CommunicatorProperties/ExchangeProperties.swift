import ExpertParallel
import MoECore

extension CommunicatorProperty {
  static let exchanges = [allToAll, emptyRanks, hierarchical, manyRequests, gathers, broadcasts]

  static let allToAll = CommunicatorProperty("all-to-all brings each block to its rank") {
    communicator, generator, hash in
    let (rank, size) = (communicator.rank, communicator.size)
    let seed = generator.next()
    let rowSize = 1 + generator.below(9)
    let counts = (0..<size).map { _ in (0..<size).map { _ in generator.rowCount() } }
    let rows = (0..<size).flatMap { payload(counts[rank][$0] * rowSize, from: rank, to: $0, case: seed) }
    let (received, from) = try communicator.allToAll(
      rows, counts: counts[rank], rowSize: rowSize, during: "rows")
    try ensure(from == counts.map { $0[rank] }, "counts \(from)")
    let expected = (0..<size).flatMap { payload(counts[$0][rank] * rowSize, from: $0, to: rank, case: seed) }
    try ensure(received == expected, "rows differ for counts \(counts) of \(rowSize) bytes")
    hash.add(received)
  }

  static let emptyRanks = CommunicatorProperty("ranks with nothing to send or to receive take part") {
    communicator, generator, hash in
    let (rank, size) = (communicator.rank, communicator.size)
    let (silent, deaf) = (generator.below(size), generator.below(size))
    let seed = generator.next()
    func count(_ source: Int, _ destination: Int) -> Int {
      source == silent || destination == deaf ? 0 : 3 + source + destination
    }
    let rows = (0..<size).flatMap { payload(count(rank, $0), from: rank, to: $0, case: seed) }
    let (received, _) = try communicator.allToAll(
      rows, counts: (0..<size).map { count(rank, $0) }, during: "empty")
    try ensure(
      received == (0..<size).flatMap { payload(count($0, rank), from: $0, to: rank, case: seed) },
      "rows differ")
    hash.add(received)
    let nothing: [Int32] = try communicator.allToAll(
      [], counts: [Int](repeating: 0, count: size), during: "none"
    ).rows
    try ensure(nothing.isEmpty, "something came of nothing")
    try communicator.barrier(during: "after the empty ones")
  }

  /// Any number of ranks on each host, and blocks anywhere in the buffers; two are under way at once.
  static let hierarchical = CommunicatorProperty("hierarchical all-to-all brings what all-to-all brings") {
    communicator, generator, hash in
    let (rank, size) = (communicator.rank, communicator.size)
    for hostCount in 1...size {
      let seed = generator.next()
      let hosts = (0..<size).map { _ in generator.below(hostCount) * 7 }
      let counts = (0..<size * size).map { _ in generator.rowCount() }
      let sent = BlockLayout(rows: (0..<size).map { counts[rank * size + $0] }, bytesPerRow: 1)
      let own = (0..<size).map { counts[$0 * size + rank] }
      // From the last rank to the first, with gaps.
      let offsets = (0..<size).map { other in own[(other + 1)...].reduce(0) { $0 + $1 + 3 } }
      let received = BlockLayout(offsets: offsets, counts: own)
      let source = MessageBuffer(
        (0..<size).flatMap { payload(sent.counts[$0], from: rank, to: $0, case: seed) })
      let results = (0..<3).map { _ in MessageBuffer(byteCount: own.reduce(0) { $0 + $1 + 3 }) }
      let requests = try [
        communicator.startHierarchicalAllToAll(
          from: source, sent, into: results[0], received, counts: counts, hosts: hosts, during: "random hosts"
        ),
        communicator.startHierarchicalAllToAll(
          from: source, sent, into: results[1], received, counts: counts, during: "its hosts"),
        communicator.startAllToAll(from: source, sent, into: results[2], received, during: "direct"),
      ]
      for request in requests.reversed() { try request.wait() }
      let bytes = results.map { $0.elements(of: UInt8.self) }
      try ensure(bytes[0] == bytes[2] && bytes[1] == bytes[2], "hosts \(hosts) and counts \(counts)")
      for other in 0..<size {
        let block = bytes[0][offsets[other]..<offsets[other] + own[other]]
        try ensure(
          Array(block) == payload(own[other], from: other, to: rank, case: seed), "the block of rank \(other)"
        )
      }
      hash.add(bytes[0])
    }
  }

  /// Many requests are under way at once, and every rank waits for them in an order of its own.
  static let manyRequests = CommunicatorProperty("outstanding requests do not mix, in any order of waiting") {
    communicator, generator, hash in
    let (rank, size) = (communicator.rank, communicator.size)
    let seed = generator.next()
    let sizes = (0..<30).map { _ in generator.rowCount() }
    var under: [(request: Request, result: MessageBuffer, expected: [UInt8])] = []
    for (index, count) in sizes.enumerated() {
      let seed = seed &+ UInt64(index)
      if index.isMultiple(of: 3) {
        let buffer = MessageBuffer(numbers(count, of: rank, case: seed))
        let request = try communicator.startAllReduce(
          buffer, of: Float.self, count: count, .sum, during: "request \(index)")
        let sum = rankOrderedSum((0..<size).map { numbers(count, of: $0, case: seed) })
        under.append((request, buffer, MessageBuffer(sum).elements(of: UInt8.self)))
      } else {
        let source = MessageBuffer((0..<size).flatMap { payload(count, from: rank, to: $0, case: seed) })
        let destination = MessageBuffer(byteCount: source.byteCount)
        let blocks = BlockLayout(rows: [Int](repeating: count, count: size), bytesPerRow: 1)
        let request = try communicator.startAllToAll(
          from: source, blocks, into: destination, blocks, during: "request \(index)")
        under.append(
          (request, destination, (0..<size).flatMap { payload(count, from: $0, to: rank, case: seed) }))
      }
      communicator.poll()
    }
    var order = SeededGenerator(seed: seed &+ UInt64(rank))
    for index in under.indices.shuffled(using: &order) {
      if order.next().isMultiple(of: 2) { _ = try under[index].request.test() }
      try under[index].request.wait()
      try ensure(under[index].request.isComplete, "request \(index) is not complete")
    }
    for (index, (_, result, expected)) in under.enumerated() {
      let bytes = result.elements(of: UInt8.self)
      try ensure(bytes == expected, "request \(index) of \(sizes[index]) is wrong")
      hash.add(bytes)
    }
  }

  static let gathers = CommunicatorProperty("all-gather brings every rank's values to all") {
    communicator, generator, hash in
    let (rank, size) = (communicator.rank, communicator.size)
    let seed = generator.next()
    let counts = (0..<size).map { _ in generator.rowCount() }
    let lists = counts.indices.map { payload(counts[$0], from: $0, to: 0, case: seed) }
    let known = try communicator.allGather(lists[rank], counts: counts, during: "known counts")
    try ensure(known == lists.flatMap { $0 }, "known counts \(counts)")
    let unknown = try communicator.allGatherLists(lists[rank], during: "unknown counts")
    try ensure(unknown == lists, "unknown counts \(counts)")
    let same = try communicator.allGather([rank, -rank], during: "two each")
    try ensure(same == (0..<size).flatMap { [$0, -$0] }, "fixed counts")
    hash.add(known)
  }

  static let broadcasts = CommunicatorProperty("broadcast brings the root's values to all") {
    communicator, generator, hash in
    let seed = generator.next()
    for root in 0..<communicator.size {
      for count in [0, 1, 1 + generator.below(3000), 16_384 + generator.below(50_000)] {
        let mine = numbers(count, of: communicator.rank, case: seed)
        let values = try communicator.broadcast(mine, root: root, during: "from \(root)")
        try ensure(
          sameBits(values, numbers(count, of: root, case: seed)), "\(count) values from rank \(root) differ")
        hash.add(values)
      }
    }
  }
}
