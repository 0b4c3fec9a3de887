internal import MoE
internal import MoECore

/// The order of the rows of each expert over all ranks, and the choices that a capacity drops. Both are as one rank
/// with the whole batch would decide.
///
/// A choice's place is a sum of counts. Rows of an expert come scope by scope (the batch, or its sequences), within a
/// scope by priority, and with equal priority in the order of tokens, that is rank by rank. So every rank counts its
/// own choices by scope, priority and expert, all ranks gather the counts, and each adds up the counts that come before
/// its own. If a key has priority, such as the larger weight, no such sum exists. Then the ranks gather experts and keys
/// themselves, 8 bytes per choice.
struct GlobalOrder {
  /// `[R][E]`: the number of rows that each rank's tokens have for each expert.
  private(set) var rowsByRank: [[Int]]
  /// `[t, K]` of this rank's t tokens: the expert of each choice; −1 for a choice that was dropped or masked.
  private(set) var experts: [Int32]
  /// `[t, K]`: the place of each choice among all rows of its expert; −1 for a choice that was dropped or masked.
  private(set) var places: [Int]
  /// `[t, K]`: the place of each choice among its expert's rows of its scope; −1 as in `places`.
  private(set) var slots: [Int32]
  /// `[E]`: the number of dropped choices of this rank.
  private(set) var dropped: [Int64]

  /// Exchanges the counts. A collective.
  ///
  /// - Parameters:
  ///   - expertIDs: `[t, K]`: the expert of each choice; −1 for a masked token.
  ///   - keys: `[t, K]`: the keys by which choices claim rows; nil if their order is that of tokens and choices.
  ///   - scopes: the tokens that compete, and the capacities.
  ///   - priority: the order in which choices claim rows.
  ///   - claimsUntaken: whether choices that are not taken claim rows too, which they leave again.
  ///   - expertCount: E.
  ///   - expertsPerToken: K.
  ///   - communicator: the ranks.
  ///   - activity: what the caller is doing, which errors name.
  init(
    expertIDs: UnsafeBufferPointer<Int32>, keys: UnsafeBufferPointer<Float>?, scopes: CapacityScopes,
    priority: RoutingPolicy.Capacity.Priority, claimsUntaken: Bool = false, expertCount: Int,
    expertsPerToken: Int, over communicator: any Communicator, during activity: String
  ) throws(CommunicationError) {
    // Without a capacity the rows are in the order of the tokens, for any priority.
    let priority = scopes.drops ? priority : .tokenThenChoice
    let tables = (0..<communicator.size).map {
      CountTable(
        scopes, rank: $0, priorityCount: priority == .choiceThenToken ? expertsPerToken : 1,
        expertCount: expertCount, expertsPerToken: expertsPerToken)
    }
    let table = tables[communicator.rank]

    let claims = expertIDs.indices.map {
      unsafe RowClaim(expert: expertIDs[$0], key: keys?[$0] ?? 0)
    }
    if priority == .batchPrioritized || priority == .nextChoice || claimsUntaken && scopes.drops {
      let all = try communicator.allGather(claims, counts: tables.map(\.choices.count), during: activity)
      self = GlobalOrder(
        all, scopes: scopes, priority: priority, claimsUntaken: claimsUntaken, tables: tables,
        rank: communicator.rank)
      return
    }

    // 1. Count the choices of all ranks.
    var counts: [[Int32]]
    if unsafe scopes.drops && keys != nil {
      (experts, counts) = try Self.heaviest(
        claims, in: scopes, tables: tables, over: communicator, during: activity)
    } else {
      experts = unsafe Array(expertIDs)
      counts = try Self.gather(
        table.count(experts[...]).counts, tables: tables, over: communicator, during: activity)
    }

    // 2. Find the first place of this rank's choices for each scope, priority and expert.
    let starts = Starts(of: table, rank: communicator.rank, tables: tables, counts: counts, scopes: scopes)
    rowsByRank = starts.rowsByRank

    // 3. Give each choice its place, or drop it.
    let preceding = table.count(experts[...]).preceding
    dropped = Array(repeating: 0, count: expertCount)
    places = Array(repeating: -1, count: experts.count)
    slots = Array(repeating: -1, count: experts.count)
    for choice in experts.indices where unsafe expertIDs[choice] >= 0 {
      let expert = unsafe Int(expertIDs[choice])
      let entry = table.entry(ofChoice: choice, expert)
      let slot = starts.slots[entry] + Int(preceding[choice])
      guard experts[choice] >= 0, slot < scopes.capacity(table.scope(ofChoice: choice)) else {
        dropped[expert] += 1
        experts[choice] = -1
        continue
      }
      slots[choice] = Int32(slot)
      places[choice] = starts.rows[entry] + slot
    }
  }

  /// Gathers the counts of all ranks. A collective.
  private static func gather(
    _ counts: [Int32], tables: [CountTable], over communicator: any Communicator, during activity: String
  ) throws(CommunicationError) -> [[Int32]] {
    var rest = try communicator.allGather(counts, counts: tables.map(\.count), during: activity)[...]
    return tables.map { table in
      defer { rest = rest.dropFirst(table.count) }
      return Array(rest.prefix(table.count))
    }
  }

  /// Drops this rank's choices whose scope has enough larger keys to fill the capacity. A collective.
  ///
  /// - Returns: the experts of this rank's choices, −1 for dropped ones, and the counts of the choices of all ranks
  ///   that were not dropped.
  private static func heaviest(
    _ claims: [RowClaim], in scopes: CapacityScopes, tables: [CountTable],
    over communicator: any Communicator, during activity: String
  ) throws(CommunicationError) -> (experts: [Int32], counts: [[Int32]]) {
    let table = tables[communicator.rank]
    guard let size = scopes.size else {
      // A rank's tokens are a scope of their own.
      let experts = withoutLightest(
        claims, scope: max(claims.count, 1), capacity: scopes.capacity(communicator.rank), table)
      let counts = try gather(
        table.count(experts[...]).counts, tables: tables, over: communicator, during: activity)
      return (experts, counts)
    }
    let all = try communicator.allGather(claims, counts: tables.map(\.choices.count), during: activity)
    let experts = withoutLightest(
      all, scope: size * table.expertsPerToken, capacity: scopes.capacity(0), table)
    return (Array(experts[table.choices]), tables.map { $0.count(experts[$0.choices]).counts })
  }

  /// Returns the experts of all claims, −1 for each claim whose scope has enough larger keys to fill the capacity.
  /// Among equal keys the earlier choice stays.
  ///
  /// - Parameters:
  ///   - claims: the claims of consecutive choices.
  ///   - scope: the choices of a scope.
  ///   - capacity: the largest number of rows per expert in a scope.
  ///   - table: a table with the number of experts.
  private static func withoutLightest(
    _ claims: [RowClaim], scope: Int, capacity: Int, _ table: CountTable
  ) -> [Int32] {
    var experts = claims.map(\.expert)
    for first in stride(from: 0, to: claims.count, by: scope) {
      var choices: [[Int]] = Array(repeating: [], count: table.expertCount)
      for choice in first..<min(first + scope, claims.count) where experts[choice] >= 0 {
        choices[Int(experts[choice])].append(choice)
      }
      for list in choices where list.count > capacity {
        let ordered = list.sorted {
          claims[$0].key != claims[$1].key ? claims[$0].key > claims[$1].key : $0 < $1
        }
        for choice in ordered[capacity...] { experts[choice] = -1 }
      }
    }
    return experts
  }

  /// The first places of a rank's choices for each scope, priority and expert.
  private struct Starts {
    /// For each entry of the rank's table: the first slot in the scope.
    var slots: [Int]
    /// For each entry of the rank's table: the number of the expert's rows of earlier scopes.
    var rows: [Int]
    /// `[R][E]`: the number of rows that each rank's tokens have for each expert.
    var rowsByRank: [[Int]]

    init(of table: CountTable, rank: Int, tables: [CountTable], counts: [[Int32]], scopes: CapacityScopes) {
      slots = Array(repeating: 0, count: table.count)
      rows = slots
      rowsByRank = Array(repeating: Array(repeating: 0, count: table.expertCount), count: tables.count)
      var earlierRows = [Int](repeating: 0, count: table.expertCount)
      for scope in 0..<scopes.count {
        let capacity = scopes.capacity(scope)
        for expert in 0..<table.expertCount {
          var claimed = 0
          for priority in 0..<table.priorityCount {
            for (other, otherTable) in tables.enumerated() where otherTable.scopes.contains(scope) {
              let entry = otherTable.entry(scope, priority, expert)
              if other == rank {
                slots[entry] = claimed
                rows[entry] = earlierRows[expert]
              }
              let count = Int(counts[other][entry])
              rowsByRank[other][expert] += max(min(claimed + count, capacity) - claimed, 0)
              claimed += count
            }
          }
          earlierRows[expert] += min(claimed, capacity)
        }
      }
    }
  }
}

extension GlobalOrder {
  /// Gives the choices of all ranks their places one after another, for an order that depends on keys of whole tokens or
  /// on the rows that are left.
  private init(
    _ claims: [RowClaim], scopes: CapacityScopes, priority: RoutingPolicy.Capacity.Priority,
    claimsUntaken: Bool, tables: [CountTable], rank: Int
  ) {
    let (expertCount, chosen) = (tables[rank].expertCount, tables[rank].expertsPerToken)
    var (slots, places) = (
      [Int32](repeating: -1, count: claims.count), [Int](repeating: -1, count: claims.count)
    )
    rowsByRank = Array(repeating: Array(repeating: 0, count: expertCount), count: tables.count)
    dropped = Array(repeating: 0, count: expertCount)
    var earlierRows = [Int](repeating: 0, count: expertCount)
    let owner = tables.enumerated().flatMap { rank, table in table.choices.map { _ in rank } }
    for scope in 0..<scopes.count {
      let tokens = scopes.tokens(ofScope: scope)
      let capacity = scopes.capacity(scope)
      // The claims on each expert, and the rows that it gives.
      var claimed = [Int](repeating: 0, count: expertCount)
      var taken = claimed
      var placed = Set<Int>()
      for index in Self.turns(of: tokens, claims, priority: priority, expertsPerToken: chosen) {
        let id = Int(claims[index].expert)
        let isTaken = id >= 0
        if id == -1 || !isTaken && !claimsUntaken { continue }
        if priority == .nextChoice && placed.contains(index / chosen) { continue }
        let expert = isTaken ? id : -2 - id
        claimed[expert] += 1
        if !isTaken { continue }
        guard claimed[expert] <= capacity else {
          if owner[index] == rank { dropped[expert] += 1 }
          continue
        }
        slots[index] = Int32(taken[expert])
        places[index] = earlierRows[expert] + taken[expert]
        rowsByRank[owner[index]][expert] += 1
        taken[expert] += 1
        placed.insert(index / chosen)
      }
      for expert in 0..<expertCount { earlierRows[expert] += taken[expert] }
    }
    let own = tables[rank].choices
    self.slots = Array(slots[own])
    self.places = Array(places[own])
    experts = own.map { slots[$0] < 0 ? -1 : claims[$0].expert }
  }

  /// Returns the choices of a scope's tokens in the order in which they claim rows.
  private static func turns(
    of tokens: Range<Int>, _ claims: [RowClaim], priority: RoutingPolicy.Capacity.Priority,
    expertsPerToken chosen: Int
  ) -> [Int] {
    if priority == .tokenThenChoice { return Array(tokens.lowerBound * chosen..<tokens.upperBound * chosen) }
    var order = Array(tokens)
    if priority == .batchPrioritized {
      order.sort {
        let (a, b) = (claims[$0 * chosen].key, claims[$1 * chosen].key)
        return a != b ? a > b : $0 < $1
      }
    }
    return (0..<chosen).flatMap { choice in order.map { $0 * chosen + choice } }
  }
}

/// A choice that claims a row of its expert.
private struct RowClaim: BitwiseCopyable {
  /// The expert; −1 for a masked token.
  var expert: Int32
  /// The key by which the choice claims the row; 0 if the order has no keys.
  var key: Float
}

/// The layout of one rank's counts of choices: `[scopes of its tokens, priorities, E]`.
private struct CountTable {
  /// The choices of the rank, by their indices in the batch.
  let choices: Range<Int>
  /// The scopes of the rank's tokens.
  let scopes: Range<Int>
  /// The number of tokens in a scope; nil if the rank's tokens are a scope.
  private let scopeSize: Int?
  private let firstToken: Int
  let priorityCount: Int
  let expertCount: Int
  let expertsPerToken: Int

  init(
    _ scopes: CapacityScopes, rank: Int, priorityCount: Int, expertCount: Int, expertsPerToken: Int
  ) {
    let tokens = scopes.batch.tokens(ofRank: rank)
    choices = tokens.lowerBound * expertsPerToken..<tokens.upperBound * expertsPerToken
    self.scopes = scopes.scopes(ofRank: rank)
    scopeSize = scopes.size
    firstToken = tokens.lowerBound
    self.priorityCount = priorityCount
    self.expertCount = expertCount
    self.expertsPerToken = expertsPerToken
  }

  /// The number of entries of the table.
  var count: Int { scopes.count * priorityCount * expertCount }

  func entry(_ scope: Int, _ priority: Int, _ expert: Int) -> Int {
    ((scope - scopes.lowerBound) * priorityCount + priority) * expertCount + expert
  }

  /// - Parameter choice: the index of the choice among the choices of the rank.
  func entry(ofChoice choice: Int, _ expert: Int) -> Int {
    entry(scope(ofChoice: choice), priorityCount == 1 ? 0 : choice % expertsPerToken, expert)
  }

  func scope(ofChoice choice: Int) -> Int {
    scopeSize.map { (firstToken + choice / expertsPerToken) / $0 } ?? scopes.lowerBound
  }

  /// Counts choices by entry.
  ///
  /// - Parameter experts: the experts of the rank's choices, −1 for none.
  /// - Returns: the counts by entry, and for each choice the number of earlier choices of the same entry.
  func count(_ experts: ArraySlice<Int32>) -> (counts: [Int32], preceding: [Int32]) {
    var counts = [Int32](repeating: 0, count: count)
    var preceding = [Int32](repeating: 0, count: experts.count)
    for (choice, expert) in experts.enumerated() where expert >= 0 {
      let entry = entry(ofChoice: choice, Int(expert))
      preceding[choice] = counts[entry]
      counts[entry] += 1
    }
    return (counts, preceding)
  }
}
