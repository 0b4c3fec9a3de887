/// The metadata of a choice. The rank of its expert gets it.
struct RowMetadata: BitwiseCopyable {
  /// The choice's row among all rows of that rank.
  var row: Int32
  /// The choice's token, by its index among the tokens that the sender sends to that rank.
  var token: Int32
  /// The number by which that rank multiplies the row.
  var weight: Float
}

/// The numbers of rows that one rank exchanges with another in one slice.
struct SliceCounts: BitwiseCopyable {
  /// The number of tokens that travel to the experts.
  var tokens: Int
  /// The number of choices of these and earlier tokens that are computed in the slice.
  var choices: Int
  /// The number of rows that come back in the slice.
  var returnedRows: Int
}

/// The rows and metadata that this rank sends in one pass, and the rows that it expects back.
struct OutgoingRows {
  /// The token of each row, slice by slice, and in each slice by rank.
  private(set) var tokens: [Int32] = []
  /// The metadata of each choice, rank by rank, and for each rank slice by slice.
  private(set) var metadata: [RowMetadata] = []
  /// The choices in the order of the metadata.
  private(set) var announcedChoices: [Int32] = []
  /// `[R, slices]`: the counts for each rank and slice.
  private(set) var counts: [SliceCounts] = []
  /// The choice of each row that comes back, slice by slice, and in each slice by rank. For a sum it is the first
  /// choice.
  private var returned: [ChoicesByDestination.Entry] = []

  /// - Parameters:
  ///   - choices: this rank's choices by rank and slice.
  ///   - choiceCount: t · K.
  ///   - expertsPerToken: K.
  ///   - returned: the kind of rows that come back.
  ///   - weights: `[t, K]`: the number by which the rank of the expert multiplies each row; nil for 1.
  init(
    _ choices: ChoicesByDestination, choiceCount: Int, expertsPerToken: Int, returned: ReturnedRows,
    weights: UnsafePointer<Float>?
  ) {
    let (rankCount, sliceCount) = (choices.rankCount, choices.sliceCount)
    let tokenCount = choiceCount / max(expertsPerToken, 1)
    metadata.reserveCapacity(choices.count)
    announcedChoices.reserveCapacity(choices.count)
    // Lists for each slice of each rank, `[R · slices]`.
    var tokenLists = [[Int32]](repeating: [], count: rankCount * sliceCount)
    var returnLists = [[ChoicesByDestination.Entry]](repeating: [], count: rankCount * sliceCount)
    // For each token: the last rank that it was sent to, and its index among the tokens sent to that rank.
    var lastRank = [Int32](repeating: -1, count: tokenCount)
    var indexThere = [Int32](repeating: 0, count: tokenCount)
    for rank in 0..<rankCount {
      // For each token sent to this rank: its first choice there, and the slice of its last choice there.
      var visits: [(first: ChoicesByDestination.Entry, slice: Int)] = []
      for slice in 0..<sliceCount {
        let bucket = rank * sliceCount + slice
        for entry in choices[rank, slice] {
          let token = Int(entry.choice) / expertsPerToken
          if lastRank[token] != rank {
            lastRank[token] = Int32(rank)
            indexThere[token] = Int32(visits.count)
            visits.append((entry, slice))
            tokenLists[bucket].append(Int32(token))
          } else {
            let visit = Int(indexThere[token])
            visits[visit].slice = slice
            if entry.choice < visits[visit].first.choice { visits[visit].first = entry }
          }
          let weight = unsafe weights == nil ? 1 : weights![Int(entry.choice)]
          metadata.append(RowMetadata(row: entry.row, token: indexThere[token], weight: weight))
          announcedChoices.append(entry.choice)
          if returned == .perChoice { returnLists[bucket].append(entry) }
        }
      }
      if returned == .partialSums {
        for visit in visits { returnLists[rank * sliceCount + visit.slice].append(visit.first) }
      }
    }
    func sliceBySlice<Value>(_ lists: [[Value]]) -> [Value] {
      (0..<sliceCount).flatMap { slice in (0..<rankCount).flatMap { lists[$0 * sliceCount + slice] } }
    }
    tokens = sliceBySlice(tokenLists)
    self.returned = sliceBySlice(returnLists)
    counts = (0..<rankCount * sliceCount).map { bucket in
      SliceCounts(
        tokens: tokenLists[bucket].count, choices: choices[bucket / sliceCount, bucket % sliceCount].count,
        returnedRows: returnLists[bucket].count)
    }
  }

  /// Returns the place of each choice's row among the rows that come back, and the rows of further shards that are
  /// added to it.
  func places(choiceCount: Int) -> (choiceRow: [Int32], shardRows: [(row: Int32, target: Int32)]) {
    var choiceRow = [Int32](repeating: -1, count: choiceCount)
    for (row, entry) in returned.enumerated() where entry.shard == 0 {
      choiceRow[Int(entry.choice)] = Int32(row)
    }
    var shardRows: [(row: Int32, target: Int32)] = []
    for (row, entry) in returned.enumerated() where entry.shard > 0 {
      shardRows.append((Int32(row), choiceRow[Int(entry.choice)]))
    }
    return (choiceRow, shardRows)
  }
}

/// The counts of all slices between this rank and every other rank.
struct ExchangedCounts {
  /// `[R, slices]`: the counts from this rank to each rank, and from each rank to this rank.
  let sent: [SliceCounts]
  let received: [SliceCounts]
  /// `[R, R, slices]`: the counts from each rank to each rank; nil without a hierarchical exchange.
  let all: [SliceCounts]?
  let rankCount: Int

  /// Returns the traffic of each slice. `tokens` and `choices` travel from source to destination, `returnedRows` travel
  /// back.
  func slices() -> [DispatchPlan.Slice] {
    let sliceCount = sent.count / rankCount
    var (sentTokens, receivedTokens, sentRows, receivedRows) = (0, 0, 0, 0)
    return (0..<sliceCount).map { slice in
      func perRank(_ counts: [SliceCounts], _ kind: KeyPath<SliceCounts, Int>) -> [Int] {
        (0..<rankCount).map { counts[$0 * sliceCount + slice][keyPath: kind] }
      }
      /// Returns one kind of count from source to destination or, if transposed, from destination to source.
      func matrix(_ kind: KeyPath<SliceCounts, Int>, transposed: Bool = false) -> [Int]? {
        all.map { all in
          (0..<rankCount * rankCount).map { pair in
            let (row, column) = pair.quotientAndRemainder(dividingBy: rankCount)
            let (source, destination) = transposed ? (column, row) : (row, column)
            return all[(source * rankCount + destination) * sliceCount + slice][keyPath: kind]
          }
        }
      }
      let dispatch = DispatchPlan.Traffic(
        sent: perRank(sent, \.tokens), received: perRank(received, \.tokens), firstSent: sentTokens,
        firstReceived: receivedTokens, matrix: matrix(\.tokens))
      let combine = DispatchPlan.Traffic(
        sent: perRank(received, \.returnedRows), received: perRank(sent, \.returnedRows),
        firstSent: sentRows, firstReceived: receivedRows, matrix: matrix(\.returnedRows, transposed: true))
      sentTokens += dispatch.sentCount
      receivedTokens += dispatch.receivedCount
      sentRows += combine.sentCount
      receivedRows += combine.receivedCount
      return DispatchPlan.Slice(
        dispatch: dispatch,
        metadata: DispatchPlan.Traffic(
          sent: perRank(sent, \.choices), received: perRank(received, \.choices)),
        combine: combine)
    }
  }
}

extension SliceCounts {
  /// Exchanges the counts of this rank, `[R, slices]`, with those of all other ranks. A collective.
  ///
  /// - Parameter isHierarchical: whether every rank gets the counts of all pairs of ranks.
  static func exchanged(
    _ counts: [SliceCounts], isHierarchical: Bool, over communicator: any Communicator,
    during activity: String
  ) throws(CommunicationError) -> ExchangedCounts {
    let size = communicator.size
    guard isHierarchical else {
      return ExchangedCounts(
        sent: counts, received: try communicator.exchange(counts, during: activity), all: nil, rankCount: size
      )
    }
    let all = try communicator.allGather(counts, during: activity)
    let sliceCount = counts.count / size
    let received = (0..<size).flatMap { source in
      let first = (source * size + communicator.rank) * sliceCount
      return all[first..<first + sliceCount]
    }
    return ExchangedCounts(sent: counts, received: received, all: all, rankCount: size)
  }
}
