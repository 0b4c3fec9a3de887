internal import HeapModule
public import MoECore

/// Places experts by their loads so that the rank with the most rows has as few rows as possible.
///
/// This is scheduling on identical machines, which is NP-hard. The solver takes the longest processing time first
/// (Graham 1969, *Bounds on Multiprocessing Timing Anomalies*), then searches moves and swaps, with copies of the
/// experts that have the most rows per replica. Equal input gives equal placements.
public struct PlacementSolver: Sendable, Equatable {
  /// A placement, and its distance from the optimum.
  public struct Solution: Sendable, Equatable, CustomStringConvertible {
    /// The ranks that hold each expert.
    public let placement: ExpertPlacement
    /// `[R]`: the rows of each rank; replicas divide an expert's rows evenly.
    public let rows: [Int]
    /// The rows of the rank with the most rows if experts are placed contiguously.
    public let contiguousRows: Int
    /// A lower bound of ``largestRows`` over all placements that the solver may choose.
    public let bound: Int

    /// The rows of the rank with the most rows.
    public var largestRows: Int { rows.max()! }
    /// The excess of ``largestRows`` over the bound, in percent of the bound. The optimum is at most this far away.
    public var gap: Double { bound == 0 ? 0 : 100 * Double(largestRows - bound) / Double(bound) }

    /// Such as “rows per rank: 1234 at most (contiguous 2210), bound 1200, gap 2.8 %”.
    public var description: String {
      let tenths = Int((10 * gap).rounded())
      return "rows per rank: \(largestRows) at most (contiguous \(contiguousRows)), bound \(bound), "
        + "gap \(tenths / 10).\(tenths % 10) %"
    }
  }

  /// The number of experts, E.
  public let expertCount: Int
  /// The number of ranks, R.
  public let rankCount: Int
  /// The number of experts that a rank has memory for.
  public let slotCount: Int
  /// The largest number of copies beyond one replica of each expert.
  public let extraCount: Int

  /// - Parameters:
  ///   - expertCount: E.
  ///   - rankCount: R.
  ///   - slotCount: the number of experts that a rank has memory for; nil for ⌈E/R⌉, as in a contiguous placement.
  ///   - extraCount: the largest number of copies beyond one replica of each expert, limited by the free slots. With
  ///     more ranks than experts there are always at least R − E, so that every rank has an expert.
  /// - Throws: `MoEError.invalidConfiguration` if there are fewer slots than experts.
  public init(expertCount: Int, rankCount: Int, slotCount: Int? = nil, extraCount: Int = 0) throws(MoEError) {
    guard expertCount > 0, rankCount > 0, extraCount >= 0 else {
      throw .invalidConfiguration(
        "\(expertCount) experts and \(extraCount) copies on \(rankCount) ranks, expected at least 1, 0 and 1")
    }
    let slotCount = slotCount ?? (expertCount + rankCount - 1) / rankCount
    // A rank never holds an expert twice.
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
  /// - Parameter load: `[E]`: the rows of each expert, added up over any number of training steps.
  /// - Returns: a placement that is not worse than the contiguous placement, if that fits the slots; among equally good
  ///   placements, the one with the fewest copies.
  /// - Throws: `MoEError` unless the loads are E numbers of at least 0 whose sum is at most 2⁵³.
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

  /// The numbers of copies that are tried: the smallest possible, then steps of one, then ever larger steps.
  private var copyCounts: [Int] {
    let least = max(rankCount - expertCount, 0)
    var counts = [least]
    while let last = counts.last, last < extraCount {
      counts.append(min(last + max(1, (last - least) / 4), extraCount))
    }
    return counts
  }

  /// Returns the rows of each rank, `[R]`, for a placement of experts with the loads `load`, `[E]`.
  ///
  /// - Precondition: the placement has E experts and R ranks, and its replicas divide rows evenly.
  package func rows(of placement: ExpertPlacement, load: [Int]) -> [Int] {
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

  /// An expert that may be copied: the expert with the most rows per replica comes first, then the first expert.
  private struct Candidate: Comparable {
    var rowsPerReplica: Double
    var expert: Int

    static func < (left: Candidate, right: Candidate) -> Bool {
      (right.rowsPerReplica, left.expert) < (left.rowsPerReplica, right.expert)
    }
  }

  /// Returns the number of replicas of each expert, `[E]`: one, and each copy goes to the expert with the most rows per
  /// replica.
  private func replicaCounts(_ load: [Int], copies: Int) -> [Int] {
    var counts = [Int](repeating: 1, count: expertCount)
    var queue = Heap<Candidate>()
    if rankCount > 1 {
      queue = Heap(
        load.enumerated().map { Candidate(rowsPerReplica: Double($0.element), expert: $0.offset) })
    }
    for _ in 0..<copies {
      guard let expert = queue.popMin()?.expert else { break }
      counts[expert] += 1
      if counts[expert] < rankCount {
        queue.insert(
          Candidate(rowsPerReplica: Double(load[expert]) / Double(counts[expert]), expert: expert))
      }
    }
    return counts
  }

  /// Returns the largest of several lower bounds of the rows of the rank with the most rows.
  func bound(_ load: [Int]) -> Int {
    // Some rank has at least the mean. Without rows the search below ends at once, so it divides by no limit of 0.
    let mean = (load.reduce(0, +) + rankCount - 1) / rankCount
    // No replica has more than T rows only if each expert has at least ⌈load/T⌉ replicas: the bound is the smallest T
    // for which there are enough replicas.
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
    // Some rank has k + 1 of the k·R + 1 largest experts, and so at least the rows of the k + 1 smallest of these.
    let sorted = load.sorted(by: >)
    for k in stride(from: 1, to: (expertCount + rankCount - 1) / rankCount, by: 1) {
      bound = max(bound, sorted[k * rankCount - k...k * rankCount].reduce(0, +))
    }
    // The rank with the largest expert also has all experts for which the other ranks have no slots.
    let least = max(expertCount - (rankCount - 1) * slotCount, 1)
    return max(bound, sorted[0] + sorted.suffix(least - 1).reduce(0, +))
  }
}
