internal import MoE
internal import MoECore

/// Who sends which tokens to whom, for one pass: made by the forward pass, used again by the backward pass.
///
/// A token goes once to each rank that has one of its experts, with the first slice of that rank's rows that needs it.
/// The rank is told, for each such choice, the row that it takes there, and so has its experts' rows in the order of the
/// whole batch. What it makes of them comes back as one row a choice, slice by slice.
struct TokenDispatch {
  /// What travels in one slice, here and there in order of rank.
  struct Slice {
    /// Tokens and rows for each rank, and from each.
    var sentTokens: [Int], sentRows: [Int]
    var receivedTokens: [Int], receivedRows: [Int]
    /// This rank's rows: where those of each of its experts begin, `[local experts + 1]`, from 0.
    var offsets: [Int64] = []
    /// Of each row, among all received tokens.
    var order: [Int32] = []
    /// What each row is multiplied by, where weights multiply the input.
    var weights: [Float] = []
    /// Of each received choice: its row.
    var rows: [Int32] = []

    var rowCount: Int { order.count }

    /// Calls `body` with the weights; nil where rows are not multiplied.
    func withWeights<Result, Failure: Error>(
      _ body: (UnsafePointer<Float>?) throws(Failure) -> Result
    ) throws(Failure) -> Result {
      guard !weights.isEmpty else { return try body(nil) }
      return try unsafe weights.withUnsafeBufferPointer { weights throws(Failure) in
        try unsafe body(weights.baseAddress)
      }
    }
  }

  /// In the order in which they travel.
  private(set) var slices: [Slice]
  /// The token of each row that is sent, slice by slice and in each by rank.
  private(set) var tokens: [Int32]
  /// `[t, K]`: where a choice's row stands among those that come back; −1 where it has none.
  private(set) var choiceRow: [Int32]
  /// With tensor parallelism: of each further part of a choice, where it comes back, and the row it is to be added to.
  private(set) var parts: [(row: Int32, of: Int32)] = []
  /// Where experts' rows are computed.
  let rows: ExpertRows

  /// The tokens that come to this rank.
  var receivedTokenCount: Int { slices.reduce(0) { $0 + $1.receivedTokens.reduce(0, +) } }
  /// The rows that this rank computes, and so sends back.
  var rowCount: Int { slices.reduce(0) { $0 + $1.rowCount } }
  /// The rows that come back to this rank.
  var returnedRowCount: Int { slices.reduce(0) { $0 + $1.sentRows.reduce(0, +) } }

  /// Exchanges how much goes where, and where each row belongs.
  ///
  /// - Parameters:
  ///   - sliceCount: the same on all ranks.
  ///   - weights: `[t, K]` where they multiply the experts' input; nil elsewhere.
  init(
    order: GlobalOrder, tokenCount: Int, expertsPerToken: Int, placement: ExpertPlacement, sliceCount: Int,
    weights: UnsafePointer<Float>?, communicator: any Communicator, step: String
  ) throws(CommunicationError) {
    let size = communicator.size
    rows = ExpertRows(placement, rowsByRank: order.rowsByRank, slices: sliceCount)
    let parcels = Parcels(
      order, rows, size: size, sliceCount: sliceCount, partCount: placement.tensorParallelSize)
    choiceRow = Array(repeating: -1, count: tokenCount * expertsPerToken)
    slices = (0..<sliceCount).map { slice in
      Slice(
        sentTokens: Array(repeating: 0, count: size), sentRows: parcels.counts(slice),
        receivedTokens: [], receivedRows: [])
    }

    // Where the parcel of each rank and slice begins among the rows that come back.
    var nextRow = 0
    var firstRow = [Int](repeating: 0, count: size * sliceCount)
    for slice in 0..<sliceCount {
      for rank in 0..<size {
        firstRow[rank * sliceCount + slice] = nextRow
        nextRow += slices[slice].sentRows[rank]
      }
    }
    var announcements: [Announcement] = []
    announcements.reserveCapacity(nextRow)
    var tokenLists = [[Int32]](repeating: [], count: size * sliceCount)
    var lastRank = [Int32](repeating: -1, count: tokenCount)
    var place = [Int32](repeating: 0, count: tokenCount)
    for rank in 0..<size {
      var count: Int32 = 0
      for slice in 0..<sliceCount {
        let parcel = rank * sliceCount + slice
        for (index, item) in parcels.items(rank, slice).enumerated() {
          let token = Int(item.choice) / expertsPerToken
          if lastRank[token] != rank {
            lastRank[token] = Int32(rank)
            place[token] = count
            count += 1
            tokenLists[parcel].append(Int32(token))
          }
          let weight = unsafe weights == nil ? 1 : weights![Int(item.choice)]
          announcements.append(Announcement(row: item.row, token: place[token], weight: weight))
          let row = Int32(firstRow[parcel] + index)
          if item.part == 0 { choiceRow[Int(item.choice)] = row }
        }
        slices[slice].sentTokens[rank] = tokenLists[parcel].count
      }
    }
    tokens = (0..<sliceCount).flatMap { slice in
      (0..<size).flatMap { tokenLists[$0 * sliceCount + slice] }
    }
    if placement.tensorParallelSize > 1 {
      for rank in 0..<size {
        for slice in 0..<sliceCount {
          for (index, item) in parcels.items(rank, slice).enumerated() where item.part > 0 {
            parts.append((Int32(firstRow[rank * sliceCount + slice] + index), choiceRow[Int(item.choice)]))
          }
        }
      }
    }

    let counts = try communicator.exchange(
      (0..<size).flatMap { rank in slices.flatMap { [$0.sentTokens[rank], $0.sentRows[rank]] } }, step: step)
    for slice in 0..<sliceCount {
      slices[slice].receivedTokens = (0..<size).map { counts[($0 * sliceCount + slice) * 2] }
      slices[slice].receivedRows = (0..<size).map { counts[($0 * sliceCount + slice) * 2 + 1] }
    }
    let stride = MemoryLayout<Announcement>.stride
    func all(_ counts: KeyPath<Slice, [Int]>) -> Blocks {
      Blocks(
        rows: (0..<size).map { rank in slices.reduce(0) { $0 + $1[keyPath: counts][rank] } },
        bytesPerRow: stride)
    }
    let incoming = MessageBuffer(byteCount: all(\.receivedRows).counts.reduce(0, +))
    try communicator.startAllToAll(
      from: MessageBuffer(announcements), all(\.sentRows), into: incoming, all(\.receivedRows), step: step
    ).wait()
    take(
      incoming.elements(of: Announcement.self), rank: communicator.rank, weighs: unsafe weights != nil)
  }

  /// Arranges this rank's rows as they were announced.
  private mutating func take(_ announcements: [Announcement], rank: Int, weighs: Bool) {
    let (offsets, cuts) = (rows.offsets[rank], rows.cuts[rank])
    for index in slices.indices {
      let own = cuts[index]..<cuts[index + 1]
      slices[index].offsets = offsets.map {
        Int64(min(max($0, own.lowerBound), own.upperBound) - own.lowerBound)
      }
      slices[index].order = Array(repeating: 0, count: own.count)
      slices[index].weights = Array(repeating: 1, count: weighs ? own.count : 0)
      slices[index].rows.reserveCapacity(slices[index].receivedRows.reduce(0, +))
    }
    var next = announcements.startIndex
    for source in slices[0].receivedTokens.indices {
      // A source numbers its tokens through all slices; here they stand slice by slice, in each by source.
      var positions: [Int32] = []
      var before = 0
      for slice in slices {
        let first = before + slice.receivedTokens[..<source].reduce(0, +)
        for position in first..<first + slice.receivedTokens[source] { positions.append(Int32(position)) }
        before += slice.receivedTokens.reduce(0, +)
      }
      for index in slices.indices {
        let first = Int32(cuts[index])
        for announcement in announcements[next..<next + slices[index].receivedRows[source]] {
          let row = announcement.row - first
          slices[index].rows.append(row)
          slices[index].order[Int(row)] = positions[Int(announcement.token)]
          if weighs { slices[index].weights[Int(row)] = announcement.weight }
        }
        next += slices[index].receivedRows[source]
      }
    }
  }
}

/// What the owner of an expert is told of a choice: its row there, the token by its index among those that come from the
/// same rank, and what the row is multiplied by.
private struct Announcement: BitwiseCopyable {
  var row: Int32
  var token: Int32
  var weight: Float
}

/// This rank's choices by the rank and slice that they go to, in each in the order of the tokens.
private struct Parcels {
  struct Item {
    var choice: Int32
    var row: Int32
    var part: Int32
  }

  private let sliceCount: Int
  private let size: Int
  private var sorted: [Item]
  private var starts: [Int]

  init(_ order: GlobalOrder, _ rows: ExpertRows, size: Int, sliceCount: Int, partCount: Int) {
    self.sliceCount = sliceCount
    self.size = size
    var items: [(parcel: Int, item: Item)] = []
    items.reserveCapacity(order.experts.count * partCount)
    starts = Array(repeating: 0, count: size * sliceCount + 1)
    for (choice, expert) in order.experts.enumerated() where expert >= 0 {
      let (rank, row) = rows.target(Int(expert), place: order.places[choice])
      var slice = 0
      while row >= rows.cuts[rank][slice + 1] { slice += 1 }
      for part in 0..<partCount {
        let parcel = (rank + part) * sliceCount + slice
        starts[parcel + 1] += 1
        items.append((parcel, Item(choice: Int32(choice), row: Int32(row), part: Int32(part))))
      }
    }
    for parcel in 0..<size * sliceCount { starts[parcel + 1] += starts[parcel] }
    var next = starts
    sorted = Array(repeating: Item(choice: 0, row: 0, part: 0), count: items.count)
    for (parcel, item) in items {
      sorted[next[parcel]] = item
      next[parcel] += 1
    }
  }

  func items(_ rank: Int, _ slice: Int) -> ArraySlice<Item> {
    let parcel = rank * sliceCount + slice
    return sorted[starts[parcel]..<starts[parcel + 1]]
  }

  /// The choices for each rank in a slice.
  func counts(_ slice: Int) -> [Int] { (0..<size).map { items($0, slice).count } }
}
