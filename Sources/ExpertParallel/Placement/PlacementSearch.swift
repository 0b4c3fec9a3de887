/// Replicas of experts on ranks with a number of slots, moved about until no single move or swap helps.
struct PlacementSearch {
  /// A replica of an expert and its rows, rounded up.
  private struct Replica: Equatable {
    var expert: Int
    var rows: Int
  }

  /// What there is to place, the largest first, the replicas of an expert one behind the other.
  private let replicas: [Replica]
  private let slotCount: Int
  private var held: [[Replica]]
  private var rows: [Int]

  /// The experts of each rank.
  var experts: [[Int]] { held.map { $0.map(\.expert) } }

  /// - Parameter shares: the load and the number of replicas of each expert.
  init(shares: [(load: Int, replicas: Int)], rankCount: Int, slotCount: Int) {
    self.slotCount = slotCount
    replicas = shares.enumerated().flatMap { expert, share in
      let rows = (share.load + share.replicas - 1) / share.replicas
      return [Replica](repeating: Replica(expert: expert, rows: rows), count: share.replicas)
    }.sorted { ($1.rows, $0.expert) < ($0.rows, $1.expert) }
    held = Array(repeating: [], count: rankCount)
    rows = Array(repeating: 0, count: rankCount)
  }

  private func holds(_ rank: Int, _ expert: Int) -> Bool { held[rank].contains { $0.expert == expert } }

  private mutating func add(_ replica: Replica, to rank: Int) {
    held[rank].append(replica)
    rows[rank] += replica.rows
  }

  private mutating func remove(_ index: Int, from rank: Int) -> Replica {
    rows[rank] -= held[rank][index].rows
    return held[rank].remove(at: index)
  }

  /// Gives each replica, the largest first, to the rank with the fewest rows that has a slot and no replica of the same.
  mutating func placeLongestFirst() {
    var queue = Heap<(rows: Int, count: Int, rank: Int)> { $0 < $1 }
    for rank in held.indices { queue.insert((0, 0, rank)) }
    for replica in replicas {
      var passed: [(rows: Int, count: Int, rank: Int)] = []
      while let next = queue.popFirst() {
        passed.append(next)
        if !holds(next.rank, replica.expert) { break }
      }
      if let last = passed.last, !holds(last.rank, replica.expert) {
        passed.removeLast()
        add(replica, to: last.rank)
        if held[last.rank].count < slotCount {
          queue.insert((rows[last.rank], held[last.rank].count, last.rank))
        }
      } else {
        // Whoever has a slot has the expert. A full rank without it takes it, and gives that rank one in exchange.
        let roomy = passed.removeFirst()
        exchange(replica, into: roomy.rank)
        if held[roomy.rank].count < slotCount {
          queue.insert((rows[roomy.rank], held[roomy.rank].count, roomy.rank))
        }
      }
      for next in passed { queue.insert(next) }
    }
  }

  /// Fills a slot of `roomy` with a replica of a rank that has none of the expert, and puts `replica` there.
  ///
  /// There is one: the ranks are more than the expert's replicas, and of a full rank's experts `roomy`, which has fewer and
  /// one that the other has not, lacks some.
  private mutating func exchange(_ replica: Replica, into roomy: Int) {
    let full = held.indices.filter { !holds($0, replica.expert) }.min { (rows[$0], $0) < (rows[$1], $1) }!
    let index = held[full].indices.filter { !holds(roomy, held[full][$0].expert) }.max {
      held[full][$0].rows < held[full][$1].rows
    }!
    add(remove(index, from: full), to: roomy)
    add(replica, to: full)
  }

  /// Takes rows from the rank that has most by the best move or swap, as long as that helps, but no longer than a fixed
  /// number of comparisons.
  mutating func improve() {
    var comparisons = 0
    while comparisons < 5_000_000 {
      let fullest = rows.indices.max { (rows[$0], $1) < (rows[$1], $0) }!
      guard let change = bestChange(from: fullest, &comparisons) else { return }
      let given = remove(change.given, from: fullest)
      if let taken = change.taken { add(remove(taken, from: change.rank), to: fullest) }
      add(given, to: change.rank)
    }
  }

  private struct Change {
    var given: Int
    var rank: Int
    var taken: Int?
  }

  /// The move or swap after which the larger of both ranks is the smallest; nil where none is smaller than before.
  private func bestChange(from fullest: Int, _ comparisons: inout Int) -> Change? {
    var best: Change?
    var limit = rows[fullest]
    func offer(_ given: Int, _ rank: Int, _ taken: Int?, difference: Int) {
      let larger = max(rows[fullest] - difference, rows[rank] + difference)
      if difference > 0, larger < limit {
        limit = larger
        best = Change(given: given, rank: rank, taken: taken)
      }
    }
    for rank in held.indices where rank != fullest && rows[rank] < limit {
      for (index, given) in held[fullest].enumerated() {
        comparisons += 1 + held[rank].count
        if holds(rank, given.expert) { continue }
        if held[rank].count < slotCount, held[fullest].count > 1 {
          offer(index, rank, nil, difference: given.rows)
        }
        for (other, taken) in held[rank].enumerated()
        where taken.rows < given.rows && !holds(fullest, taken.expert) {
          offer(index, rank, other, difference: given.rows - taken.rows)
        }
      }
    }
    return best
  }
}
