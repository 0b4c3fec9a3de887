internal import MoE
internal import MoECore

/// Who sends which tokens to whom, for one pass: made by ``init(order:tokenCount:expertsPerToken:placement:weights:communicator:step:)``,
/// used by the forward pass and again by the backward pass.
///
/// A token goes once to each rank that has one of its experts. With it goes, for each such choice, the row that the
/// choice takes there. The owner so has its experts' rows in the order of the whole batch. What it makes of them comes
/// back as one row a choice, in the order in which the choices were announced.
struct TokenDispatch {
  /// The choices that this rank sends: `[tokens and choices for each rank]`.
  private(set) var sentTokens: [Int]
  private(set) var sentRows: [Int]
  /// The same of what this rank receives.
  private(set) var receivedTokens: [Int]
  private(set) var receivedRows: [Int]
  /// The token of each row that is sent, in order of the rank it is for.
  private(set) var tokens: [Int32]
  /// `[t, K]`: where a choice's row stands among those that come back; −1 where it has none.
  private(set) var choiceRow: [Int32]
  /// Of each received choice: its row among those of this rank's experts.
  private(set) var rows: [Int32]
  /// `[M]`: the received token of each such row, and what it is multiplied by, where weights multiply the input.
  private(set) var order: [Int32]
  private(set) var weights: [Float]
  /// `[local experts + 1]`: where the rows of each begin.
  private(set) var offsets: [Int64]

  /// Exchanges how much goes where, and where each row belongs.
  ///
  /// - Parameters:
  ///   - weights: `[t, K]` where they multiply the experts' input; nil elsewhere.
  init(
    order: GlobalOrder, tokenCount: Int, expertsPerToken: Int, placement: ExpertPlacement,
    weights: UnsafePointer<Float>?, communicator: any Communicator, step: String
  ) throws(CommunicationError) {
    let targets = Targets(placement, rowCounts: order.rowCounts)
    var lists = [[Announcement]](repeating: [], count: communicator.size)
    var choices = [[Int]](repeating: [], count: communicator.size)
    var tokenLists = [[Int32]](repeating: [], count: communicator.size)
    for token in 0..<tokenCount {
      for choice in token * expertsPerToken..<(token + 1) * expertsPerToken where order.experts[choice] >= 0 {
        let (rank, row) = targets.target(Int(order.experts[choice]), place: order.places[choice])
        if tokenLists[rank].last != Int32(token) { tokenLists[rank].append(Int32(token)) }
        let weight = unsafe weights == nil ? 1 : weights![choice]
        lists[rank].append(
          Announcement(row: Int32(row), token: Int32(tokenLists[rank].count - 1), weight: weight))
        choices[rank].append(choice)
      }
    }
    tokens = Array(tokenLists.joined())
    sentTokens = tokenLists.map(\.count)
    sentRows = lists.map(\.count)
    choiceRow = Array(repeating: -1, count: tokenCount * expertsPerToken)
    for (row, choice) in choices.joined().enumerated() { choiceRow[choice] = Int32(row) }

    let counts = try communicator.exchange(
      zip(sentTokens, sentRows).flatMap { [$0, $1] }, step: step)
    receivedTokens = (0..<communicator.size).map { counts[2 * $0] }
    receivedRows = (0..<communicator.size).map { counts[2 * $0 + 1] }
    let stride = MemoryLayout<Announcement>.stride
    let incoming = MessageBuffer(byteCount: receivedRows.reduce(0, +) * stride)
    try communicator.startAllToAll(
      from: MessageBuffer(Array(lists.joined())), Blocks(rows: sentRows, bytesPerRow: stride),
      into: incoming, Blocks(rows: receivedRows, bytesPerRow: stride), step: step
    ).wait()
    let announced = incoming.elements(of: Announcement.self)

    offsets = targets.offsets[communicator.rank]
    let rowCount = Int(offsets.last!)
    rows = announced.map(\.row)
    self.order = Array(repeating: 0, count: rowCount)
    self.weights = Array(repeating: 1, count: unsafe weights == nil ? 0 : rowCount)
    var (index, firstToken) = (0, 0)
    for (source, count) in receivedRows.enumerated() {
      for announcement in announced[index..<index + count] {
        let row = Int(announcement.row)
        self.order[row] = Int32(firstToken) + announcement.token
        if !self.weights.isEmpty { self.weights[row] = announcement.weight }
      }
      index += count
      firstToken += receivedTokens[source]
    }
  }

  /// The rows that come back to this rank.
  var returnedRowCount: Int { sentRows.reduce(0, +) }
}

/// What the owner of an expert is told of a choice: its row there, the token by its index among those that come from the
/// same rank, and what the row is multiplied by.
private struct Announcement: BitwiseCopyable {
  var row: Int32
  var token: Int32
  var weight: Float
}

/// Where the rows of each expert are.
private struct Targets {
  private let shares: [[(rank: Int, rows: Range<Int>, firstRow: Int)]]
  /// `[R][local experts + 1]`.
  let offsets: [[Int64]]

  init(_ placement: ExpertPlacement, rowCounts: [Int]) {
    var shares = [[(rank: Int, rows: Range<Int>, firstRow: Int)]](repeating: [], count: placement.expertCount)
    offsets = placement.experts.enumerated().map { rank, experts in
      var offsets: [Int64] = [0]
      for expert in experts {
        let replica = placement.replicas[expert].firstIndex(of: rank)!
        let rows = placement.share(replica, of: expert, rowCount: rowCounts[expert])
        shares[expert].append((rank, rows, Int(offsets.last!)))
        offsets.append(offsets.last! + Int64(rows.count))
      }
      return offsets
    }
    self.shares = shares
  }

  /// The rank that computes a place among an expert's rows, and its row there.
  func target(_ expert: Int, place: Int) -> (rank: Int, row: Int) {
    let share = shares[expert].first { $0.rows.contains(place) }!
    return (share.rank, share.firstRow + place - share.rows.lowerBound)
  }
}
