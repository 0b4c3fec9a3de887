public import MoE
internal import MoECore

extension ExpertParallelLayer {
  /// The sums over all ranks that losses of the batch are made of, the same on every rank and to the bit those of one
  /// rank with the whole batch. A collective, but for the sums of this rank alone.
  ///
  /// - Parameters:
  ///   - recording: of a pass that has not been gone back through.
  ///   - grouping: the groups; those of sequences and positions need whole sequences on every rank.
  ///   - extent: the tokens that are counted: the batch's, or this rank's alone.
  ///   - workspace: scratch.
  ///   - execution: as of the forward pass.
  /// - Throws: as `MoELayer`'s, `CommunicationError`, and `MoEError.invalidConfiguration` where a rank that is not the
  ///   last has a part of a sequence.
  public func statistics(
    of recording: inout ExpertParallelRecording, by grouping: TokenGrouping, extent: Extent = .batch,
    workspace: inout ExpertParallelWorkspace, execution: Execution? = nil
  ) throws -> RouterStatistics {
    let order = recording.pass?.order
    let own = try part.statistics(
      of: order?.routes, recording.record, by: grouping, workspace: &workspace.local,
      execution: execution ?? .automatic())
    guard extent == .batch, let firstTokens = order?.firstTokens else { return own }
    if let rank = grouping.rankWithPart(of: firstTokens) {
      throw MoEError.invalidConfiguration(
        "rank \(rank) ends within a sequence, after token \(firstTokens[rank + 1]), so that there are no statistics "
          + "of a \(grouping)")
    }
    let step = "the statistics of the router"
    let values = try communicator.allGatherLists(own.integers, step: step)
    var sum: RouterStatistics?
    for (rank, integers) in values.enumerated() {
      let part = RouterStatistics(
        grouping: grouping, expertCount: own.expertCount, expertsPerToken: own.expertsPerToken,
        tokenCount: firstTokens[rank + 1] - firstTokens[rank], integers: integers)
      sum = try sum.map { try $0 + part } ?? part
    }
    // The squares round, so they are added in the order of the batch.
    let counts = zip(firstTokens, firstTokens.dropFirst()).map { $1 - $0 }
    let logs = try communicator.allGather(recording.record.logSumExp, counts: counts, step: step)
    sum!.logSumExpSquares = logs.reduce(0) { $0 + Double($1) * Double($1) }
    return sum!
  }
}

extension TokenGrouping {
  /// The first rank that ends within a sequence, though tokens follow.
  fileprivate func rankWithPart(of firstTokens: [Int]) -> Int? {
    switch self {
    case .batch: nil
    case .sequence(let length), .position(let length):
      (0..<firstTokens.count - 1).first {
        firstTokens[$0 + 1] % length != 0 && firstTokens[$0 + 1] < firstTokens.last!
      }
    }
  }
}

extension RouterStatistics {
  fileprivate var integers: [Int64] { tokenCounts + counts + firstChoiceCounts + probabilitySums }

  fileprivate init(
    grouping: TokenGrouping, expertCount: Int, expertsPerToken: Int, tokenCount: Int, integers: [Int64]
  ) {
    self.init(
      grouping: grouping, expertCount: expertCount, expertsPerToken: expertsPerToken, tokenCount: tokenCount)
    var rest = integers[...]
    for table in [\Self.tokenCounts, \.counts, \.firstChoiceCounts, \.probabilitySums] {
      let count = self[keyPath: table].count
      self[keyPath: table] = Array(rest.prefix(count))
      rest = rest.dropFirst(count)
    }
  }
}
