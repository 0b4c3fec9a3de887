public import MoE
internal import MoECore

extension ExpertParallelLayer {
  /// Returns the sums over all ranks from which losses over the batch are made. They are the same on every rank, and
  /// equal to the bit to those of one rank with the whole batch. A collective, unless `extent` is `.rank`.
  ///
  /// - Parameters:
  ///   - recording: the recording of a pass whose backward pass has not been called.
  ///   - grouping: the groups of tokens; groups by sequence and by position need whole sequences on every rank.
  ///   - extent: whether the tokens of the batch are counted or those of this rank alone.
  ///   - workspace: scratch.
  ///   - execution: the execution of the forward pass.
  /// - Throws: as `MoELayer`'s method, `CommunicationError`, and `MoEError.invalidConfiguration` if a rank ends within
  ///   a sequence although tokens follow.
  public func statistics(
    of recording: inout ExpertParallelRecording, by grouping: TokenGrouping, extent: Extent = .batch,
    workspace: inout ExpertParallelWorkspace, execution: Execution? = nil
  ) throws -> RouterStatistics {
    let pass = recording.pass?.dispatched
    let local = try localLayer.statistics(
      of: pass?.routes, recording.record, by: grouping, workspace: &workspace.local,
      execution: execution ?? communicator.share(of: .automatic()))
    guard extent == .batch, let batch = pass?.batch else { return local }
    let firstTokens = batch.firstTokens
    if let rank = grouping.rankWithPart(of: firstTokens) {
      throw MoEError.invalidConfiguration(
        "rank \(rank) ends within a sequence, after token \(firstTokens[rank + 1]), so that there are no statistics "
          + "of a \(grouping)")
    }
    let activity = "the statistics of the router"
    let values = try communicator.allGatherLists(local.integers, during: activity)
    var sum: RouterStatistics?
    for (rank, integers) in values.enumerated() {
      let part = RouterStatistics(
        grouping: grouping, expertCount: local.expertCount, expertsPerToken: local.expertsPerToken,
        tokenCount: firstTokens[rank + 1] - firstTokens[rank], integers: integers)
      sum = try sum.map { try $0 + part } ?? part
    }
    // Sums of squares are rounded, so the squares are added in the order of the batch.
    let logs = try communicator.allGather(
      recording.record.logSumExp, counts: batch.tokenCounts, during: activity)
    sum!.logSumExpSquares = logs.reduce(0) { $0 + Double($1) * Double($1) }
    return sum!
  }
}

extension TokenGrouping {
  /// Returns the first rank that ends within a sequence although tokens follow; nil if there is none.
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
