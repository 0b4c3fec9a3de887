internal import MoE
internal import MoECore

/// The order of the rows of each expert over all ranks, and which choices the capacity drops: what one rank with the
/// whole batch would decide.
///
/// A choice's place is made of sums of counts. Rows of an expert come scope by scope (the batch, or its sequences), in
/// a scope by priority, and of equal priority in the order of tokens, that is rank by rank. So every rank counts its own
/// choices by scope, priority and expert, all ranks gather the counts, and add up those that come before. Where the
/// larger weight has priority there is no such sum: the ranks gather experts and weights themselves, 8 bytes a choice.
struct GlobalOrder {
  /// `[R][E]`: the rows of each rank's tokens for each expert.
  private(set) var rowsByRank: [[Int]]
  /// `[t, K]` of this rank's t tokens: the expert of each choice that was not dropped, −1 for others.
  private(set) var experts: [Int32]
  /// `[t, K]`: a choice's place among the rows of its expert; −1 where dropped or masked.
  private(set) var places: [Int]
  /// `[t, K]`: the same within its scope.
  private(set) var slots: [Int32]
  /// `[E]`: choices of this rank that were dropped.
  private(set) var dropped: [Int64]

  /// Exchanges what is needed.
  ///
  /// - Parameters:
  ///   - expertIDs: `[t, K]`, −1 for a masked token.
  ///   - weights: `[t, K]`.
  ///   - scopes: the tokens that compete, and the capacities.
  ///   - priority: the order in which choices claim rows.
  init(
    expertIDs: UnsafeBufferPointer<Int32>, weights: UnsafeBufferPointer<Float>, scopes: CapacityScopes,
    priority: RoutingPolicy.Capacity.Priority, expertCount: Int, expertsPerToken: Int,
    communicator: any Communicator, during activity: String
  ) throws(CommunicationError) {
    let chosen = expertsPerToken
    let rank = communicator.rank
    let firstTokens = scopes.firstTokens
    // Without a capacity the order is that of the tokens, whatever the rule.
    let byChoice = scopes.drops && priority == .choiceThenToken
    let byWeight = scopes.drops && priority == .weight
    let parts = byChoice ? chosen : 1
    let tables = (0..<communicator.size).map {
      Table(
        tokens: firstTokens[$0]..<firstTokens[$0 + 1], scopes: scopes.scopes(ofRank: $0), size: scopes.size,
        parts: parts, experts: expertCount)
    }
    dropped = Array(repeating: 0, count: expertCount)

    var kept = unsafe Array(expertIDs)
    var counts: [[Int32]]
    if byWeight, let size = scopes.size {
      let all = try communicator.allGather(
        unsafe Self.claims(expertIDs, weights), counts: tables.map { $0.tokens.count * chosen }, during: activity)
      let ids = Self.withoutSmallest(
        all, scope: size * chosen, capacity: scopes.capacity(0), expertCount: expertCount)
      counts = tables.map { table in
        let choices = table.tokens.lowerBound * chosen..<table.tokens.upperBound * chosen
        return table.count(ids[choices], chosen).counts
      }
      kept = Array(ids[firstTokens[rank] * chosen..<firstTokens[rank + 1] * chosen])
    } else {
      if byWeight {
        kept = Self.withoutSmallest(
          unsafe Self.claims(expertIDs, weights), scope: max(kept.count, 1), capacity: scopes.capacity(rank),
          expertCount: expertCount)
      }
      let mine = tables[rank].count(kept[...], chosen).counts
      let all = try communicator.allGather(mine, counts: tables.map(\.count), during: activity)
      var start = 0
      counts = tables.map { table in
        defer { start += table.count }
        return Array(all[start..<start + table.count])
      }
    }
    let before = tables[rank].count(kept[...], chosen).before

    // Where this rank's choices of each scope, priority and expert begin, in the scope and among the expert's rows.
    rowsByRank = Array(repeating: Array(repeating: 0, count: expertCount), count: tables.count)
    var rowCounts = [Int](repeating: 0, count: expertCount)
    var slotStart = [Int](repeating: 0, count: tables[rank].count)
    var rowStart = slotStart
    for index in 0..<scopes.count {
      let capacity = scopes.capacity(index)
      for expert in 0..<expertCount {
        var wanted = 0
        for part in 0..<parts {
          for (other, table) in tables.enumerated() where table.scopes.contains(index) {
            let place = table.place(index, part, expert)
            if other == rank {
              slotStart[place] = wanted
              rowStart[place] = rowCounts[expert]
            }
            let count = Int(counts[other][place])
            rowsByRank[other][expert] += max(min(wanted + count, capacity) - wanted, 0)
            wanted += count
          }
        }
        rowCounts[expert] += min(wanted, capacity)
      }
    }

    experts = kept
    places = Array(repeating: -1, count: kept.count)
    slots = Array(repeating: -1, count: kept.count)
    for (choice, id) in kept.enumerated() {
      guard id >= 0 else {
        if unsafe expertIDs[choice] >= 0 { unsafe dropped[Int(expertIDs[choice])] += 1 }
        continue
      }
      let place = tables[rank].place(ofChoice: choice, chosen, Int(id))
      let slot = slotStart[place] + Int(before[choice])
      guard slot < scopes.capacity(tables[rank].scope(ofChoice: choice, chosen)) else {
        dropped[Int(id)] += 1
        experts[choice] = -1
        continue
      }
      slots[choice] = Int32(slot)
      places[choice] = rowStart[place] + slot
    }
  }

  /// Experts and weights of this rank's choices.
  private static func claims(
    _ expertIDs: UnsafeBufferPointer<Int32>, _ weights: UnsafeBufferPointer<Float>
  ) -> [Claim] {
    expertIDs.indices.map { unsafe Claim(expert: expertIDs[$0], weight: weights[$0]) }
  }

  /// The experts of all choices with −1 for those that the larger weights of a scope leave no room for; of equal
  /// weights the earlier choice stays.
  private static func withoutSmallest(
    _ claims: [Claim], scope: Int, capacity: Int, expertCount: Int
  ) -> [Int32] {
    var ids = claims.map(\.expert)
    for first in stride(from: 0, to: claims.count, by: scope) {
      var choices: [[Int]] = Array(repeating: [], count: expertCount)
      for choice in first..<min(first + scope, claims.count) where ids[choice] >= 0 {
        choices[Int(ids[choice])].append(choice)
      }
      for list in choices where list.count > capacity {
        let ordered = list.sorted {
          claims[$0].weight != claims[$1].weight ? claims[$0].weight > claims[$1].weight : $0 < $1
        }
        for choice in ordered[capacity...] { ids[choice] = -1 }
      }
    }
    return ids
  }
}

/// A choice that wants a row.
private struct Claim: BitwiseCopyable {
  var expert: Int32
  var weight: Float
}

/// How a rank's counts are laid out: `[scopes it has tokens of, priorities, E]`.
private struct Table {
  let tokens: Range<Int>
  /// The scopes that the tokens are of, and the tokens of each; nil where there is one a rank.
  let scopes: Range<Int>
  let size: Int?
  let parts: Int
  let experts: Int

  var count: Int { scopes.count * parts * experts }

  func place(_ index: Int, _ part: Int, _ expert: Int) -> Int {
    ((index - scopes.lowerBound) * parts + part) * experts + expert
  }

  func place(ofChoice choice: Int, _ chosen: Int, _ expert: Int) -> Int {
    place(scope(ofChoice: choice, chosen), parts == 1 ? 0 : choice % chosen, expert)
  }

  func scope(ofChoice choice: Int, _ chosen: Int) -> Int {
    size.map { (tokens.lowerBound + choice / chosen) / $0 } ?? scopes.lowerBound
  }

  /// The counts of these choices, and of each choice how many of the same scope, priority and expert it follows.
  func count(_ ids: ArraySlice<Int32>, _ chosen: Int) -> (counts: [Int32], before: [Int32]) {
    var counts = [Int32](repeating: 0, count: count)
    var before = [Int32](repeating: 0, count: ids.count)
    for (choice, id) in ids.enumerated() where id >= 0 {
      let place = place(ofChoice: choice, chosen, Int(id))
      before[choice] = counts[place]
      counts[place] += 1
    }
    return (counts, before)
  }
}
