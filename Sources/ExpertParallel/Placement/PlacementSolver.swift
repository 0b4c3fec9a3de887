public import MoECore

/// Places experts so that the rank with the most rows has few, by what each expert's load was.
///
/// Placing experts so is scheduling on identical machines, which is NP-hard; this is longest processing time first (Graham
/// 1969, *Bounds on Multiprocessing Timing Anomalies*) and a local search of moves and swaps, with copies of the experts
/// that have the most rows per replica. The same input gives the same placement.
public struct PlacementSolver: Sendable, Equatable {
  /// A placement, and how good it is.
  public struct Solution: Sendable, Equatable, CustomStringConvertible {
    /// Which ranks hold which experts.
    public let placement: ExpertPlacement
    /// The rows of each rank, `[R]`; replicas split an expert's rows evenly.
    public let rows: [Int]
    /// The rows of the rank that has most where experts are placed contiguously.
    public let contiguousRows: Int
    /// No placement that the solver may choose leaves all ranks with fewer rows.
    public let bound: Int

    /// The rows of the rank that has most.
    public var largestRows: Int { rows.max()! }
    /// By how many percent of the bound the rank with most rows exceeds it: the optimum is no further away.
    public var gap: Double { bound == 0 ? 0 : 100 * Double(largestRows - bound) / Double(bound) }

    /// Such as “rows per rank: 1234 at most (contiguous 2210), bound 1200, gap 2.8 %”.
    public var description: String {
      let tenths = Int((10 * gap).rounded())
      return "rows per rank: \(largestRows) at most (contiguous \(contiguousRows)), bound \(bound), "
        + "gap \(tenths / 10).\(tenths % 10) %"
    }
  }

  /// E.
  public let expertCount: Int
  /// R.
  public let rankCount: Int
  /// The experts that a rank has memory for.
  public let slotCount: Int
  /// The copies that there are at most, beyond one of each expert.
  public let extraCount: Int

  /// - Parameters:
  ///   - expertCount: E.
  ///   - rankCount: R.
  ///   - slotCount: the experts that a rank has memory for; nil for ⌈E/R⌉, those of a contiguous placement.
  ///   - extraCount: the copies that may be made beyond one of each expert, as far as there are slots. With more ranks than
  ///     experts there are always at least R − E, so that every rank has one.
  /// - Throws: `MoEError.invalidConfiguration` where the slots are fewer than the experts.
  public init(expertCount: Int, rankCount: Int, slotCount: Int? = nil, extraCount: Int = 0) throws(MoEError) {
    guard expertCount > 0, rankCount > 0, extraCount >= 0 else {
      throw .invalidConfiguration(
        "\(expertCount) experts and \(extraCount) copies on \(rankCount) ranks, expected at least 1, 0 and 1")
    }
    let slotCount = slotCount ?? (expertCount + rankCount - 1) / rankCount
    // More than all experts fit on no rank.
    self.slotCount = min(slotCount, expertCount)
    guard slotCount > 0, self.slotCount * rankCount >= expertCount else {
      throw .invalidConfiguration(
        "\(expertCount) experts do not fit \(rankCount) ranks of \(slotCount) experts each")
    }
    self.expertCount = expertCount
    self.rankCount = rankCount
    self.extraCount = max(
      min(extraCount, self.slotCount * rankCount - expertCount), rankCount - expertCount, 0)
  }

  /// Places the experts of one layer.
  ///
  /// - Parameter load: the rows of each expert, `[E]`, of any number of steps.
  /// - Returns: a placement that is not worse than the contiguous one, where that fits the slots; of equal ones the one
  ///   with fewer copies.
  /// - Throws: `MoEError` where the loads are not E numbers of at least 0 whose sum is at most 2⁵³.
  public func solve(load: [Int]) throws(MoEError) -> Solution {
    guard load.count == expertCount else {
      throw .shapeMismatch(what: "the load", expected: [expertCount], actual: [load.count])
    }
    var total = 0
    for (expert, rows) in load.enumerated() {
      guard rows >= 0, rows <= 1 << 53 - total else {
        throw .invalidConfiguration(
          "expert \(expert) has a load of \(rows) rows, expected at least 0 and at most 2^53 in all")
      }
      total += rows
    }
    let contiguous = ExpertPlacement(expertCount: expertCount, rankCount: rankCount)
    let contiguousRows = rows(of: contiguous, load: load)
    let bound = bound(load)
    let fits = contiguous.experts.allSatisfy { $0.count <= slotCount }
    var best: (placement: ExpertPlacement, rows: [Int])? = fits ? (contiguous, contiguousRows) : nil
    for copies in copyCounts where best.map({ $0.rows.max()! > bound }) ?? true {
      var search = PlacementSearch(
        shares: replicaCounts(load, copies: copies).enumerated().map { (load[$0.offset], $0.element) },
        rankCount: rankCount, slotCount: slotCount)
      search.placeLongestFirst()
      search.improve()
      let placement = try ExpertPlacement(expertCount: expertCount, experts: search.experts)
      let rows = rows(of: placement, load: load)
      if best.map({ rows.max()! < $0.rows.max()! }) ?? true { best = (placement, rows) }
    }
    return Solution(
      placement: best!.placement, rows: best!.rows, contiguousRows: contiguousRows.max()!, bound: bound)
  }

  /// The numbers of copies that are tried: as few as there can be, a few more one by one, and ever more.
  private var copyCounts: [Int] {
    let least = max(rankCount - expertCount, 0)
    var counts = [least]
    while let last = counts.last, last < extraCount {
      counts.append(min(last + max(1, (last - least) / 4), extraCount))
    }
    return counts
  }

  /// The rows of each rank, `[R]`, where experts with these loads `[E]` are placed so.
  ///
  /// - Precondition: the placement is of these experts and ranks, whose replicas split rows evenly.
  public func rows(of placement: ExpertPlacement, load: [Int]) -> [Int] {
    precondition(
      placement.sharing == .evenly && placement.tensorParallelSize == 1 && placement.rankCount == rankCount
        && placement.expertCount == load.count)
    var rows = [Int](repeating: 0, count: rankCount)
    for (expert, ranks) in placement.replicas.enumerated() {
      let cuts = placement.cuts(of: expert, rows: [load[expert]])
      for (index, rank) in ranks.enumerated() { rows[rank] += cuts[index + 1] - cuts[index] }
    }
    return rows
  }

  /// One replica of each expert, and each copy to the expert with the most rows per replica.
  private func replicaCounts(_ load: [Int], copies: Int) -> [Int] {
    var counts = [Int](repeating: 1, count: expertCount)
    var queue = Heap<(share: Double, expert: Int)> { ($1.share, $0.expert) < ($0.share, $1.expert) }
    if rankCount > 1 {
      for (expert, rows) in load.enumerated() { queue.insert((Double(rows), expert)) }
    }
    for _ in 0..<copies {
      guard let (_, expert) = queue.popFirst() else { break }
      counts[expert] += 1
      if counts[expert] < rankCount { queue.insert((Double(load[expert]) / Double(counts[expert]), expert)) }
    }
    return counts
  }

  /// The largest of what no placement can go below.
  func bound(_ load: [Int]) -> Int {
    // Some rank has at least the mean. A limit that is tried is at least that, and 1.
    let mean = (load.reduce(0, +) + rankCount - 1) / rankCount
    // All shares are at most T only with at least ⌈load/T⌉ replicas of each expert: the least T with enough of them.
    func replicas(for limit: Int) -> Int {
      load.reduce(0) { $0 + max(1, ($1 + limit - 1) / limit) }
    }
    var (low, high) = (mean, load.max()!)
    while low < high {
      let middle = low + (high - low) / 2
      if replicas(for: middle) <= expertCount + extraCount { high = middle } else { low = middle + 1 }
    }
    var bound = low
    if extraCount > 0 { return bound }
    // Of the k·R + 1 largest experts some rank has k + 1, and these have at least the rows of the smallest of them.
    let sorted = load.sorted(by: >)
    for k in stride(from: 1, to: (expertCount + rankCount - 1) / rankCount, by: 1) {
      bound = max(bound, sorted[k * rankCount - k...k * rankCount].reduce(0, +))
    }
    // Whoever has the largest expert has as many as the other ranks have no slots for.
    let least = max(expertCount - (rankCount - 1) * slotCount, 1)
    return max(bound, sorted[0] + sorted.suffix(least - 1).reduce(0, +))
  }
}
