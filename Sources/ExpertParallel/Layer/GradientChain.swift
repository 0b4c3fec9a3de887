package import MoE

/// Sums of gradients that all ranks of a group hold and some of the ranks add to. Before and after, the sums are the
/// same on all ranks.
package struct GradientChain {
  private let sums: [MessageBuffer]
  private let group: any Communicator
  private let members: [Int]
  private let activity: String

  /// - Parameters:
  ///   - parts: the memory of the sums.
  ///   - group: the ranks that hold them.
  ///   - members: the ranks that have something to add, ascending.
  ///   - activity: what the caller is doing, which errors name, such as "layer 3, forward".
  package init(
    _ parts: [(memory: Memory, bytes: Range<Int>)], group: any Communicator, members: [Int],
    during activity: String
  ) {
    sums = parts.map { memory, bytes in
      unsafe MessageBuffer(
        UnsafeMutableRawBufferPointer(start: memory.base + bytes.lowerBound, count: bytes.count), of: memory)
    }
    self.group = group
    self.members = members
    self.activity = activity
  }

  /// Returns the number of operations that a sum takes from its group; see `CommunicatorGroup.group(of:operations:)`.
  static func operationCount(parts: Int, members: Int) -> Int { parts * members }

  /// Adds the contributions of all members. A collective.
  ///
  /// - Parameters:
  ///   - rule: the order in which contributions are added.
  ///   - add: adds this rank's contribution to its sums; called only on members.
  /// - Returns: the rest of the work, to be called before the sums are used or added to again. Other computations and
  ///   exchanges may come first.
  package func sum(
    _ rule: ExpertParallelLayer.GradientSum, _ add: () throws -> Void
  ) throws -> () throws -> Void {
    guard !members.isEmpty else { return {} }
    switch rule {
    case .exact: return try exact(add)
    case .reduced: return try reduced(add)
    }
  }

  /// Each member adds to the sums of the members before it and sends them to the next; the last one sends them to all.
  private func exact(_ add: () throws -> Void) throws -> () throws -> Void {
    var sent: [Request] = []
    for (before, next) in zip([nil] + members, members) {
      if let before {
        // A group of two ranks, so that the other ranks need not wait.
        guard let pair = group.group.group(of: [before, next], operations: sums.count) else { continue }
        let link = group.communicator(over: pair)
        let requests = try sums.map { sum in
          let whole = BlockLayout.same(sum.byteCount, for: 2)
          return try link.startAllToAll(
            from: sum, whole.only { link.rank == 0 && $0 == 1 }, into: sum,
            whole.only { link.rank == 1 && $0 == 0 }, during: activity)
        }
        if link.rank == 0 {
          sent = requests
        } else {
          for request in requests { try request.wait() }
        }
      }
      if group.rank == next { try add() }
    }
    // A rank receives the sums again only after they have left it.
    return {
      for request in sent { try request.wait() }
      let results = try sums.map { try group.startBroadcast($0, root: members.last!, during: activity) }
      for result in results { try result.wait() }
    }
  }

  /// Each member adds up its own contribution from zero. An all-reduce adds these contributions in order of rank, and
  /// each rank adds the result to the earlier sums.
  private func reduced(_ add: () throws -> Void) throws -> () throws -> Void {
    let before = sums.map { sum in
      let copy = MessageBuffer(byteCount: sum.byteCount)
      unsafe copy.base.copyMemory(from: sum.base, byteCount: sum.byteCount)
      unsafe sum.base.initializeMemory(as: UInt8.self, repeating: 0, count: sum.byteCount)
      return copy
    }
    if members.contains(group.rank) { try add() }
    let requests = try sums.map { sum in
      try group.startAllReduce(
        sum, of: Float.self, count: sum.byteCount / MemoryLayout<Float>.stride, .sum, during: activity)
    }
    return {
      for (request, (sum, before)) in zip(requests, zip(sums, before)) {
        try request.wait()
        let (values, earlier) = unsafe (sum.floats, before.floats)
        for index in 0..<sum.byteCount / MemoryLayout<Float>.stride {
          unsafe values[index] = earlier[index] + values[index]
        }
      }
    }
  }
}
