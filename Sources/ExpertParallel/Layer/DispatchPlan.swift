internal import MoE
internal import MoECore

/// The rows that each rank sends to each other rank in one pass. The forward pass makes the plan, and the backward pass
/// reuses it.
///
/// The terms are those of DeepSpeed-MoE and Megatron-Core:
/// - *dispatch*: tokens go to the ranks of their experts. A token goes once to each rank that has one of its experts,
///   in the first slice of that rank's rows that needs the token.
/// - *metadata*: for each choice, its row at the rank of its expert, its token, and its weight. With the metadata of
///   all ranks a rank puts its experts' rows in the order of the whole batch.
/// - *combine*: the experts' rows come back, one row per choice or one per token and rank (``ReturnedRows``), in the
///   last slice that they need.
/// - *slice*: a part of a rank's rows that travels and is computed at once.
struct DispatchPlan {
  /// The rows that all ranks exchange in one direction in one slice.
  struct Traffic {
    /// `[R]`: the rows that this rank sends to each rank.
    var sent: [Int]
    /// `[R]`: the rows that this rank receives from each rank.
    var received: [Int]
    /// The first row of the slice in the buffer that is sent, and in the buffer that is received into.
    var firstSent = 0
    var firstReceived = 0
    /// `[R, R]`: the rows from each rank to each, source by source; nil without a hierarchical exchange.
    var matrix: [Int]?

    var sentCount: Int { sent.reduce(0, +) }
    var receivedCount: Int { received.reduce(0, +) }
  }

  /// One slice of this rank: the traffic of the slice, and the arrangement of its rows.
  struct Slice {
    /// The traffic of tokens to the experts.
    var dispatch: Traffic
    /// The traffic of metadata, one element per choice.
    var metadata: Traffic
    /// The traffic of rows from the experts back to their tokens.
    var combine: Traffic
    /// `[local experts + 1]`: the first row of each local expert in the slice, from 0.
    var offsets: [Int64] = []
    /// `[rows]`: the token of each row, by its index among all tokens that this rank receives.
    var order: [Int32] = []
    /// `[rows]`: the weight of each row; empty if this rank does not multiply rows by weights.
    var weights: [Float] = []
    /// `[received choices]`: the row of each choice, in the order of the metadata.
    var rows: [Int32] = []
    /// For each row that is sent back as a sum: its terms, as a range of ``DispatchPlan/terms``.
    var sums: [Range<Int>] = []

    var rowCount: Int { order.count }
  }

  /// A row of a slice that is a term of a sum.
  struct Term {
    var slice: Int32
    var row: Int32
  }

  /// The slices in the order in which they travel.
  private(set) var slices: [Slice]
  /// The token of each row that this rank sends, slice by slice, and in each slice by rank.
  let tokens: [Int32]
  /// The choices of this rank in the order of the metadata that it sends: rank by rank, and for each rank by slice.
  let announcedChoices: [Int32]
  /// `[t, K]`: the row of each choice among the rows that come back, or the row of the sum that begins with the choice;
  /// −1 for a choice that has no row.
  let choiceRow: [Int32]
  /// With tensor parallelism: each row that comes back from a rank with a further shard, and the row of the first shard
  /// to which it is added.
  let shardRows: [(row: Int32, target: Int32)]
  /// The terms of all sums.
  private(set) var terms: [Term] = []
  /// The ranks and slices that compute the experts' rows.
  let rows: ExpertRows
  /// The kind of rows that come back.
  let returned: ReturnedRows

  /// The number of tokens that this rank receives.
  var receivedTokenCount: Int { slices.reduce(0) { $0 + $1.dispatch.receivedCount } }
  /// The number of rows that this rank sends back.
  var sentRowCount: Int { slices.reduce(0) { $0 + $1.combine.sentCount } }
  /// The number of rows that come back to this rank.
  var returnedRowCount: Int { slices.reduce(0) { $0 + $1.combine.receivedCount } }

  /// Exchanges the metadata of a pass. A collective.
  ///
  /// - Parameters:
  ///   - order: the row of each choice of this rank's tokens, among all rows of its expert.
  ///   - rows: the ranks and slices that compute the experts' rows.
  ///   - expertsPerToken: K.
  ///   - returned: the kind of rows that come back.
  ///   - isHierarchical: whether the exchange is hierarchical. Then every rank must know the counts of all ranks.
  ///   - weights: `[t, K]`: the number by which the rank of the expert multiplies each row; nil if it multiplies none.
  ///   - communicator: the ranks.
  ///   - activity: what the caller is doing, which errors name.
  init(
    _ order: GlobalOrder, at rows: ExpertRows, expertsPerToken: Int, returned: ReturnedRows,
    isHierarchical: Bool, weights: UnsafePointer<Float>?, over communicator: any Communicator,
    during activity: String
  ) throws(CommunicationError) {
    self.rows = rows
    self.returned = returned

    // 1. Decide which rows travel to which rank.
    let outgoing = unsafe OutgoingRows(
      ChoicesByDestination(order, at: rows), choiceCount: order.experts.count,
      expertsPerToken: expertsPerToken, returned: returned, weights: weights)
    tokens = outgoing.tokens
    announcedChoices = outgoing.announcedChoices
    (choiceRow, shardRows) = outgoing.places(choiceCount: order.experts.count)

    // 2. Exchange the numbers of rows that travel from rank to rank.
    let counts = try SliceCounts.exchanged(
      outgoing.counts, isHierarchical: isHierarchical, over: communicator, during: activity)
    slices = counts.slices()

    // 3. Exchange the metadata.
    let stride = MemoryLayout<RowMetadata>.stride
    let incoming = MessageBuffer(byteCount: metadataLayout(\.received, stride).counts.reduce(0, +))
    try communicator.startAllToAll(
      from: MessageBuffer(outgoing.metadata), metadataLayout(\.sent, stride), into: incoming,
      metadataLayout(\.received, stride), during: activity
    ).wait()

    // 4. Arrange this rank's rows by the metadata.
    arrange(
      incoming.elements(of: RowMetadata.self), rank: communicator.rank, weighs: unsafe weights != nil)
  }

  /// Returns the layout of one message per rank that has one element per choice of all slices.
  private func metadataLayout(_ direction: KeyPath<Traffic, [Int]>, _ stride: Int) -> BlockLayout {
    BlockLayout(
      rows: slices[0].metadata.sent.indices.map { rank in
        slices.reduce(0) { $0 + $1.metadata[keyPath: direction][rank] }
      }, bytesPerRow: stride)
  }

  /// Puts this rank's rows into the order that the metadata says.
  private mutating func arrange(_ metadata: [RowMetadata], rank: Int, weighs: Bool) {
    let (offsets, cuts) = (rows.offsets[rank], rows.cuts[rank])
    for index in slices.indices {
      let local = cuts[index]..<cuts[index + 1]
      slices[index].offsets = offsets.map {
        Int64(min(max($0, local.lowerBound), local.upperBound) - local.lowerBound)
      }
      slices[index].order = Array(repeating: 0, count: local.count)
      slices[index].weights = Array(repeating: 1, count: weighs ? local.count : 0)
      slices[index].rows.reserveCapacity(slices[index].metadata.receivedCount)
    }
    var next = metadata.startIndex
    for source in slices[0].dispatch.received.indices {
      // A source numbers its tokens through all slices. This rank stores tokens slice by slice, and in each slice by
      // source.
      var positions: [Int32] = []
      for slice in slices {
        let first = slice.dispatch.firstReceived + slice.dispatch.received[..<source].reduce(0, +)
        for position in first..<first + slice.dispatch.received[source] { positions.append(Int32(position)) }
      }
      var visits = [[Term]](repeating: [], count: returned == .partialSums ? positions.count : 0)
      for index in slices.indices {
        let first = Int32(cuts[index])
        for choice in metadata[next..<next + slices[index].metadata.received[source]] {
          let row = choice.row - first
          slices[index].rows.append(row)
          slices[index].order[Int(row)] = positions[Int(choice.token)]
          if weighs { slices[index].weights[Int(row)] = choice.weight }
          if !visits.isEmpty { visits[Int(choice.token)].append(Term(slice: Int32(index), row: row)) }
        }
        next += slices[index].metadata.received[source]
      }
      for visit in visits {
        // Terms are in the order of this rank's rows. So the number of slices changes no sum.
        let start = terms.count
        terms += visit.sorted { ($0.slice, $0.row) < ($1.slice, $1.row) }
        slices[Int(terms.last!.slice)].sums.append(start..<terms.count)
      }
    }
  }

  /// Sends a number per choice to the rank that computes its row. A collective.
  ///
  /// - Parameter values: `[t, K]`: the number of each choice.
  /// - Returns: `[slices][rows]`: the number of each row.
  func sendChoices(
    _ values: [Float], over communicator: any Communicator, during activity: String
  ) throws(CommunicationError) -> [[Float]] {
    let stride = MemoryLayout<Float>.stride
    let (sent, received) = (metadataLayout(\.sent, stride), metadataLayout(\.received, stride))
    let incoming = MessageBuffer(byteCount: received.counts.reduce(0, +))
    try communicator.startAllToAll(
      from: MessageBuffer(announcedChoices.map { values[Int($0)] }), sent, into: incoming, received,
      during: activity
    ).wait()
    var ordered = slices.map { [Float](repeating: 0, count: $0.rowCount) }
    forEachReceivedChoice { position, slice, row in
      ordered[slice][row] = unsafe incoming.floats[position]
    }
    return ordered
  }

  /// Sends a number per row back to the rank of its choice. A collective.
  ///
  /// - Parameter values: `[slices][rows]`: the number of each row.
  /// - Returns: `[t, K]`: the number of each choice, added up over shards; 0 for a choice that has no row.
  func returnToChoices(
    _ values: [[Float]], over communicator: any Communicator, during activity: String
  ) throws(CommunicationError) -> [Float] {
    let stride = MemoryLayout<Float>.stride
    let (sent, received) = (metadataLayout(\.sent, stride), metadataLayout(\.received, stride))
    let outgoing = MessageBuffer(byteCount: received.counts.reduce(0, +))
    forEachReceivedChoice { position, slice, row in
      unsafe outgoing.floats[position] = values[slice][row]
    }
    let incoming = MessageBuffer(byteCount: sent.counts.reduce(0, +))
    try communicator.startAllToAll(from: outgoing, received, into: incoming, sent, during: activity).wait()
    var sums = [Float](repeating: 0, count: choiceRow.count)
    for (position, choice) in announcedChoices.enumerated() {
      sums[Int(choice)] += unsafe incoming.floats[position]
    }
    return sums
  }

  /// Calls `body` for each choice that this rank computes, in the order of the metadata: its position in a message of
  /// all slices, its slice, and its row in the slice.
  private func forEachReceivedChoice(_ body: (_ position: Int, _ slice: Int, _ row: Int) -> Void) {
    var position = 0
    var taken = [Int](repeating: 0, count: slices.count)
    for source in slices[0].metadata.received.indices {
      for (index, slice) in slices.enumerated() {
        for choice in taken[index]..<taken[index] + slice.metadata.received[source] {
          body(position, index, Int(slice.rows[choice]))
          position += 1
        }
        taken[index] += slice.metadata.received[source]
      }
    }
  }
}
