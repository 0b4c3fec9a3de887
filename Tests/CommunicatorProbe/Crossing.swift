import ExpertParallel

/// Many small all-to-alls, whose messages between hosts the script counts.
enum Crossing: String, CaseIterable {
  /// None: what the job itself sends.
  case nothing
  /// From each rank to each.
  case direct
  /// From each host to each.
  case hierarchical

  /// - Returns: how many messages and bytes cross from each host.
  func lines(_ communicator: any Communicator) throws -> [String] {
    let (size, hosts, own) = (communicator.size, communicator.group.hosts, communicator.ranksOnThisHost)
    let (repetitions, bytes) = (500, 500)
    let blocks = BlockLayout(rows: [Int](repeating: 1, count: size), bytesPerRow: bytes)
    let (source, destination) = (
      MessageBuffer(byteCount: size * bytes), MessageBuffer(byteCount: size * bytes)
    )
    for _ in 0..<repetitions {
      switch self {
      case .nothing: break
      case .direct:
        try communicator.startAllToAll(from: source, blocks, into: destination, blocks, during: "direct")
          .wait()
      case .hierarchical:
        try communicator.startHierarchicalAllToAll(
          from: source, blocks, into: destination, blocks,
          counts: [Int](repeating: bytes, count: size * size),
          during: "hierarchical"
        ).wait()
      }
    }
    let others = self == .direct ? own * (size - own) : self == .hierarchical ? Set(hosts).count - 1 : 0
    return ["\(repetitions * others) messages"]
  }
}
