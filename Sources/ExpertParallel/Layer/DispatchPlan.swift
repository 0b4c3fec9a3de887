internal import MoE
internal import MoECore

/// Who sends which tokens to whom, for one pass: made by the forward pass, used again by the backward pass.
///
/// A token goes once to each rank that has one of its experts, with the first slice of that rank's rows that needs it.
/// The rank is told, for each such choice, the row that it takes there, and so has its experts' rows in the order of the
/// whole batch. What it makes of them comes back as one row a choice, or one a token, with the last slice it needs.
struct TokenDispatch {
  /// What travels in one slice, here and there in order of rank.
  struct Slice {
    /// Tokens for each rank, choices that they have there, and rows that come back.
    var sentTokens: [Int], sentChoices: [Int], sentRows: [Int]
    /// The same from each rank.
    var receivedTokens: [Int] = [], receivedChoices: [Int] = [], receivedRows: [Int] = []
    /// This rank's rows: where those of each of its experts begin, `[local experts + 1]`, from 0.
    var offsets: [Int64] = []
    /// Of each row, among all received tokens.
    var order: [Int32] = []
    /// What each row's token multiplies it by; empty where the owner does not.
    var weights: [Float] = []
    /// Of each received choice: its row.
    var rows: [Int32] = []
    /// Tokens and rows from each rank to each, `[R, R]`, for a hierarchical exchange.
    var tokenCounts: [Int]?, rowCounts: [Int]?
    /// Of each row that goes back, where it is a sum: its terms among ``TokenDispatch/terms``.
    var sums: [Range<Int>] = []

    var rowCount: Int { order.count }
  }

  /// A row of a slice that is part of a sum.
  struct Term {
    var slice: Int32
    var row: Int32
  }

  /// In the order in which they travel.
  private(set) var slices: [Slice]
  /// The token of each row that is sent, slice by slice and in each by rank.
  private(set) var tokens: [Int32]
  /// The choices as they are announced, rank by rank and for each by slice.
  private(set) var announced: [Int32] = []
  /// `[t, K]`: where a choice's row stands among those that come back, or that of the first choice of a sum; −1 elsewhere.
  private(set) var choiceRow: [Int32]
  /// With tensor parallelism: of each further part of a row, where it comes back, and the row it is to be added to.
  private(set) var parts: [(row: Int32, of: Int32)] = []
  private(set) var terms: [Term] = []
  /// Where experts' rows are computed.
  let rows: ExpertRows
  let returned: ReturnedRows

  /// The tokens that come to this rank.
  var receivedTokenCount: Int { slices.reduce(0) { $0 + $1.receivedTokens.reduce(0, +) } }
  /// The rows that go back from this rank.
  var sentBackCount: Int { slices.reduce(0) { $0 + $1.receivedRows.reduce(0, +) } }
  /// The rows that come back to this rank.
  var returnedRowCount: Int { slices.reduce(0) { $0 + $1.sentRows.reduce(0, +) } }

  /// Exchanges how much goes where, and where each row belongs.
  ///
  /// - Parameters:
  ///   - sliceCount: the same on all ranks.
  ///   - isHierarchical: whether rows will travel by way of hosts, for which every rank has to know all counts.
  ///   - weights: `[t, K]`, what each row's owner is to multiply it by; nil for 1.
  init(
    order: GlobalOrder, tokenCount: Int, expertsPerToken: Int, placement: ExpertPlacement, sliceCount: Int,
    returned: ReturnedRows, isHierarchical: Bool, weights: UnsafePointer<Float>?,
    communicator: any Communicator, during activity: String
  ) throws(CommunicationError) {
    let size = communicator.size
    rows = ExpertRows(placement, rowsByRank: order.rowsByRank, slices: sliceCount)
    self.returned = returned
    let parcels = Parcels(
      order, rows, size: size, sliceCount: sliceCount, partCount: placement.tensorParallelSize)
    choiceRow = Array(repeating: -1, count: tokenCount * expertsPerToken)

    var announcements: [Announcement] = []
    announcements.reserveCapacity(parcels.count)
    announced.reserveCapacity(parcels.count)
    var tokenLists = [[Int32]](repeating: [], count: size * sliceCount)
    // Of each parcel: the choices, or the first ones of the sums, of the rows that come back with it.
    var backLists = [[Parcels.Item]](repeating: [], count: size * sliceCount)
    var lastRank = [Int32](repeating: -1, count: tokenCount)
    var place = [Int32](repeating: 0, count: tokenCount)
    for rank in 0..<size {
      // Of each token that goes there: its first choice there, and the slice of its last.
      var visits: [(first: Parcels.Item, slice: Int)] = []
      for slice in 0..<sliceCount {
        let parcel = rank * sliceCount + slice
        for item in parcels.items(rank, slice) {
          let token = Int(item.choice) / expertsPerToken
          if lastRank[token] != rank {
            lastRank[token] = Int32(rank)
            place[token] = Int32(visits.count)
            visits.append((item, slice))
            tokenLists[parcel].append(Int32(token))
          } else {
            let visit = Int(place[token])
            visits[visit].slice = slice
            if item.choice < visits[visit].first.choice { visits[visit].first = item }
          }
          let weight = unsafe weights == nil ? 1 : weights![Int(item.choice)]
          announcements.append(Announcement(row: item.row, token: place[token], weight: weight))
          announced.append(item.choice)
          if returned == .perChoice { backLists[parcel].append(item) }
        }
      }
      if returned == .partialSums {
        for visit in visits { backLists[rank * sliceCount + visit.slice].append(visit.first) }
      }
    }
    slices = (0..<sliceCount).map { slice in
      Slice(
        sentTokens: (0..<size).map { tokenLists[$0 * sliceCount + slice].count },
        sentChoices: (0..<size).map { parcels.items($0, slice).count },
        sentRows: (0..<size).map { backLists[$0 * sliceCount + slice].count })
    }
    func inOrder<Value>(_ lists: [[Value]]) -> [Value] {
      (0..<sliceCount).flatMap { slice in (0..<size).flatMap { lists[$0 * sliceCount + slice] } }
    }
    tokens = inOrder(tokenLists)
    let back = inOrder(backLists)
    for (row, item) in back.enumerated() where item.part == 0 { choiceRow[Int(item.choice)] = Int32(row) }
    for (row, item) in back.enumerated() where item.part > 0 {
      parts.append((Int32(row), choiceRow[Int(item.choice)]))
    }

    let own = (0..<size).flatMap { rank in
      slices.flatMap { [$0.sentTokens[rank], $0.sentChoices[rank], $0.sentRows[rank]] }
    }
    let width = own.count / size
    let counts: [Int]
    if isHierarchical {
      let all = try communicator.allGather(own, during: activity)
      for slice in 0..<sliceCount {
        func matrix(_ kind: Int) -> [Int] { (0..<size * size).map { all[$0 * width + slice * 3 + kind] } }
        slices[slice].tokenCounts = matrix(0)
        slices[slice].rowCounts = matrix(2)
      }
      counts = (0..<size).flatMap { source in
        let row = (source * size + communicator.rank) * width
        return all[row..<row + width]
      }
    } else {
      counts = try communicator.exchange(own, during: activity)
    }
    for slice in 0..<sliceCount {
      func received(_ kind: Int) -> [Int] { (0..<size).map { counts[$0 * width + slice * 3 + kind] } }
      slices[slice].receivedTokens = received(0)
      slices[slice].receivedChoices = received(1)
      slices[slice].receivedRows = received(2)
    }
    let stride = MemoryLayout<Announcement>.stride
    let incoming = MessageBuffer(byteCount: all(\.receivedChoices, stride).counts.reduce(0, +))
    try communicator.startAllToAll(
      from: MessageBuffer(announcements), all(\.sentChoices, stride), into: incoming,
      all(\.receivedChoices, stride), during: activity
    ).wait()
    take(
      incoming.elements(of: Announcement.self), rank: communicator.rank, weighs: unsafe weights != nil)
  }

  /// What travels in all slices together, in one message a rank.
  private func all(_ counts: KeyPath<Slice, [Int]>, _ bytesPerRow: Int) -> Blocks {
    Blocks(
      rows: slices[0][keyPath: counts].indices.map { rank in
        slices.reduce(0) { $0 + $1[keyPath: counts][rank] }
      }, bytesPerRow: bytesPerRow)
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
      slices[index].rows.reserveCapacity(slices[index].receivedChoices.reduce(0, +))
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
      var visits = [[Term]](repeating: [], count: returned == .partialSums ? positions.count : 0)
      for index in slices.indices {
        let first = Int32(cuts[index])
        for announcement in announcements[next..<next + slices[index].receivedChoices[source]] {
          let row = announcement.row - first
          slices[index].rows.append(row)
          slices[index].order[Int(row)] = positions[Int(announcement.token)]
          if weighs { slices[index].weights[Int(row)] = announcement.weight }
          if !visits.isEmpty { visits[Int(announcement.token)].append(Term(slice: Int32(index), row: row)) }
        }
        next += slices[index].receivedChoices[source]
      }
      for visit in visits {
        // In the order of this rank's rows, so that the number of slices changes no sum.
        let start = terms.count
        terms += visit.sorted { ($0.slice, $0.row) < ($1.slice, $1.row) }
        slices[Int(terms.last!.slice)].sums.append(start..<terms.count)
      }
    }
  }

  /// Sends a number of each choice `[t, K]` to the owner of its row.
  ///
  /// - Returns: the numbers in the order of each slice's rows.
  func send(
    _ values: UnsafePointer<Float>, communicator: any Communicator, during activity: String
  ) throws(CommunicationError) -> [[Float]] {
    let stride = MemoryLayout<Float>.stride
    let (sent, received) = (all(\.sentChoices, stride), all(\.receivedChoices, stride))
    let incoming = MessageBuffer(byteCount: received.counts.reduce(0, +))
    try communicator.startAllToAll(
      from: MessageBuffer(announced.map { unsafe values[Int($0)] }), sent, into: incoming, received,
      during: activity
    ).wait()
    var ordered = slices.map { [Float](repeating: 0, count: $0.rowCount) }
    forEachReceivedChoice { position, slice, row in
      ordered[slice][row] = unsafe incoming.floats[position]
    }
    return ordered
  }

  /// Sends a number of each row, in the order of each slice's rows, back to its choice, where those of several parts add up.
  ///
  /// - Returns: `[t, K]`, 0 for choices without a row.
  func sendBack(
    _ values: [[Float]], communicator: any Communicator, during activity: String
  ) throws(CommunicationError) -> [Float] {
    let stride = MemoryLayout<Float>.stride
    let (sent, received) = (all(\.sentChoices, stride), all(\.receivedChoices, stride))
    let outgoing = MessageBuffer(byteCount: received.counts.reduce(0, +))
    forEachReceivedChoice { position, slice, row in
      unsafe outgoing.floats[position] = values[slice][row]
    }
    let incoming = MessageBuffer(byteCount: sent.counts.reduce(0, +))
    try communicator.startAllToAll(from: outgoing, received, into: incoming, sent, during: activity).wait()
    var sums = [Float](repeating: 0, count: choiceRow.count)
    for (position, choice) in announced.enumerated() { sums[Int(choice)] += unsafe incoming.floats[position] }
    return sums
  }

  /// The choices as they were announced to this rank: their place in a message of all, slice and row.
  private func forEachReceivedChoice(_ body: (_ position: Int, _ slice: Int, _ row: Int) -> Void) {
    var position = 0
    var taken = [Int](repeating: 0, count: slices.count)
    for source in slices[0].receivedChoices.indices {
      for (index, slice) in slices.enumerated() {
        for choice in taken[index]..<taken[index] + slice.receivedChoices[source] {
          body(position, index, Int(slice.rows[choice]))
          position += 1
        }
        taken[index] += slice.receivedChoices[source]
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
  private var sorted: [Item]
  private var starts: [Int]

  init(_ order: GlobalOrder, _ rows: ExpertRows, size: Int, sliceCount: Int, partCount: Int) {
    self.sliceCount = sliceCount
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

  var count: Int { sorted.count }
}
