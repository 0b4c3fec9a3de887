internal import HeapModule

/// Places replicas of experts on ranks with a limited number of slots, and moves them until no single move or swap
/// helps.
struct PlacementSearch {
  /// A replica of an expert and its rows, rounded up.
  private struct Replica: Equatable {
    var expert: Int
    var rows: Int
  }

  /// The replicas to place, those with the most rows first; the replicas of one expert follow one another.
  private let replicas: [Replica]
  private let slotCount: Int
  /// `[R]`: the replicas on each rank.
  private var placed: [[Replica]]
  private var rows: [Int]

  /// The experts of each rank.
  var experts: [[Int]] { placed.map { $0.map(\.expert) } }

  /// - Parameters:
  ///   - shares: `[E]`: the load and the number of replicas of each expert.
  ///   - rankCount: R.
  ///   - slotCount: the number of replicas that a rank has memory for.
  init(shares: [(load: Int, replicas: Int)], rankCount: Int, slotCount: Int) {
    self.slotCount = slotCount
    replicas = shares.enumerated().flatMap { expert, share in
      let rows = (share.load + share.replicas - 1) / share.replicas
      return [Replica](repeating: Replica(expert: expert, rows: rows), count: share.replicas)
    }.sorted { ($1.rows, $0.expert) < ($0.rows, $1.expert) }
    placed = Array(repeating: [], count: rankCount)
    rows = Array(repeating: 0, count: rankCount)
  }

  private func holds(_ rank: Int, _ expert: Int) -> Bool { placed[rank].contains { $0.expert == expert } }

  private mutating func add(_ replica: Replica, to rank: Int) {
    placed[rank].append(replica)
    rows[rank] += replica.rows
  }

  private mutating func remove(_ index: Int, from rank: Int) -> Replica {
    rows[rank] -= placed[rank][index].rows
    return placed[rank].remove(at: index)
  }

  /// A rank with a free slot: the rank with the fewest rows comes first, then the one with the fewest replicas, then
  /// the first.
  private struct Candidate: Comparable {
    var rows: Int
    var count: Int
    var rank: Int

    static func < (left: Candidate, right: Candidate) -> Bool {
      (left.rows, left.count, left.rank) < (right.rows, right.count, right.rank)
    }
  }

  private func candidate(_ rank: Int) -> Candidate {
    Candidate(rows: rows[rank], count: placed[rank].count, rank: rank)
  }

  /// Gives each replica, the largest first, to the rank with the fewest rows that has a free slot and no replica of its
  /// expert.
  mutating func placeLongestFirst() {
    var queue = Heap(placed.indices.map(candidate))
    for replica in replicas {
      var passed: [Candidate] = []
      while let next = queue.popMin() {
        passed.append(next)
        if !holds(next.rank, replica.expert) { break }
      }
      if let last = passed.last, !holds(last.rank, replica.expert) {
        passed.removeLast()
        add(replica, to: last.rank)
        if placed[last.rank].count < slotCount {
          queue.insert(candidate(last.rank))
        }
      } else {
        // Every rank with a free slot has the expert. A full rank takes the replica and gives another one in exchange.
        let roomy = passed.removeFirst()
        exchange(replica, into: roomy.rank)
        if placed[roomy.rank].count < slotCount {
          queue.insert(candidate(roomy.rank))
        }
      }
      for next in passed { queue.insert(next) }
    }
  }

  /// Moves a replica of a full rank to `roomy`, and puts `replica` on the full rank.
  ///
  /// There is such a rank, because there are more ranks than replicas of the expert. It has an expert that `roomy`
  /// lacks, because `roomy` has fewer experts, and one of them is not on the full rank.
  private mutating func exchange(_ replica: Replica, into roomy: Int) {
    let full = placed.indices.filter { !holds($0, replica.expert) }.min { (rows[$0], $0) < (rows[$1], $1) }!
    let index = placed[full].indices.filter { !holds(roomy, placed[full][$0].expert) }.max {
      placed[full][$0].rows < placed[full][$1].rows
    }!
    add(remove(index, from: full), to: roomy)
    add(replica, to: full)
  }

  /// Takes rows from the rank with the most rows by the best move or swap, until none helps or a fixed number of
  /// comparisons has been made.
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

  /// Returns the move or swap after which the larger row count of the two ranks is smallest; nil if no move or swap
  /// makes it smaller than before.
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
    for rank in placed.indices where rank != fullest && rows[rank] < limit {
      for (index, given) in placed[fullest].enumerated() {
        comparisons += 1 + placed[rank].count
        if holds(rank, given.expert) { continue }
        if placed[rank].count < slotCount, placed[fullest].count > 1 {
          offer(index, rank, nil, difference: given.rows)
        }
        for (other, taken) in placed[rank].enumerated()
        where taken.rows < given.rows && !holds(fullest, taken.expert) {
          offer(index, rank, other, difference: given.rows - taken.rows)
        }
      }
    }
    return best
  }
}
