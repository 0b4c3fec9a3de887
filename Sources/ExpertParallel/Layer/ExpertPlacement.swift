public import MoECore

/// Which ranks hold which experts.
///
/// A replica of an expert is one rank, or with tensor parallelism the ranks that hold the parts of its F. The replicas
/// of an expert split its rows. Results have the same bits for every placement without tensor parallelism.
public struct ExpertPlacement: Sendable, Equatable {
  /// How the replicas of an expert split its rows, of which each takes a contiguous part in the order of the batch.
  public enum Sharing: Sendable, Equatable {
    /// As evenly as can be.
    case evenly
    /// Groups of so many consecutive ranks each hold all experts, and an expert's rows are cut where those of one group's
    /// tokens would end: data parallelism, in which tokens stay in their group. Only where a capacity gives first choices
    /// priority over the second choices of earlier tokens do some of them cross, as rows are then not in the tokens' order.
    case byGroup(size: Int)
  }

  /// E.
  public let expertCount: Int
  /// R.
  public let rankCount: Int
  /// The ranks that an expert's F is split over; 1 for whole experts.
  public let tensorParallelSize: Int
  /// `[R]`: the experts of each rank, ascending.
  public let experts: [[Int]]
  /// `[E]`: the first rank of each replica, ascending; the other ranks of a replica follow it.
  public let replicas: [[Int]]
  /// How replicas split rows.
  public let sharing: Sharing

  /// Experts in order over ranks in order: with at most as many ranks as experts each rank holds a contiguous part of them,
  /// ⌊E/R⌋ or ⌈E/R⌉; with more, each rank holds one.
  ///
  /// - Precondition: both numbers are at least 1.
  public init(expertCount: Int, rankCount: Int) {
    precondition(expertCount > 0 && rankCount > 0, "\(expertCount) experts on \(rankCount) ranks")
    self.init(
      expertCount: expertCount, held: Self.contiguous(expertCount, rankCount), tensorParallelSize: 1,
      sharing: .evenly)
  }

  /// Expert × data × tensor parallelism: groups of `expertParallelSize`·`tensorParallelSize` consecutive ranks hold all
  /// experts, contiguously; each expert's F is split over `tensorParallelSize` consecutive ranks.
  ///
  /// - Throws: `MoEError.invalidConfiguration` where the ranks do not divide into such groups.
  public init(
    expertCount: Int, rankCount: Int, expertParallelSize: Int, tensorParallelSize: Int = 1
  ) throws(MoEError) {
    for (what, size) in [
      ("experts", expertCount), ("ranks", rankCount),
      ("ranks of an expert-parallel group", expertParallelSize),
      ("ranks of an expert's parts", tensorParallelSize),
    ] where size < 1 {
      throw .invalidConfiguration("the number of \(what) is \(size), expected at least 1")
    }
    let group = expertParallelSize * tensorParallelSize
    guard rankCount % group == 0 else {
      throw .invalidConfiguration(
        "\(rankCount) ranks do not divide into groups of \(expertParallelSize) × \(tensorParallelSize)")
    }
    let held = Self.contiguous(expertCount, expertParallelSize)
    self.init(
      expertCount: expertCount,
      held: (0..<rankCount / tensorParallelSize).map { held[$0 % expertParallelSize] },
      tensorParallelSize: tensorParallelSize, sharing: group == rankCount ? .evenly : .byGroup(size: group))
  }

  /// Any placement; experts on several ranks split their rows evenly.
  ///
  /// - Parameter experts: those of each rank, in any order.
  /// - Throws: `MoEError.invalidConfiguration` for a rank without an expert, an expert without a rank or twice on one, or
  ///   a number that is no expert.
  public init(expertCount: Int, experts: [[Int]]) throws(MoEError) {
    for (what, number) in [("experts", expertCount), ("ranks", experts.count)] where number < 1 {
      throw .invalidConfiguration("the number of \(what) is \(number), expected at least 1")
    }
    for (rank, held) in experts.enumerated() {
      if held.isEmpty { throw .invalidConfiguration("rank \(rank) has no expert") }
      if let wrong = held.first(where: { !(0..<expertCount).contains($0) }) {
        throw .invalidConfiguration("rank \(rank) has expert \(wrong), of \(expertCount) there are")
      }
      if Set(held).count < held.count {
        throw .invalidConfiguration("rank \(rank) has an expert twice, in \(held)")
      }
    }
    let placed = Set(experts.joined())
    if let missing = (0..<expertCount).first(where: { !placed.contains($0) }) {
      throw .invalidConfiguration("expert \(missing) is on no rank")
    }
    self.init(
      expertCount: expertCount, held: experts.map { $0.sorted() }, tensorParallelSize: 1, sharing: .evenly)
  }

  /// - Parameter held: the experts of each `tensorParallelSize` consecutive ranks.
  private init(expertCount: Int, held: [[Int]], tensorParallelSize: Int, sharing: Sharing) {
    self.expertCount = expertCount
    self.tensorParallelSize = tensorParallelSize
    self.sharing = sharing
    rankCount = held.count * tensorParallelSize
    experts = (0..<rankCount).map { held[$0 / tensorParallelSize] }
    var replicas: [[Int]] = Array(repeating: [], count: expertCount)
    for (index, held) in held.enumerated() {
      for expert in held { replicas[expert].append(index * tensorParallelSize) }
    }
    self.replicas = replicas
  }

  private static func contiguous(_ expertCount: Int, _ rankCount: Int) -> [[Int]] {
    (0..<rankCount).map { rank in
      let first = rank * expertCount / rankCount
      return Array(first..<max((rank + 1) * expertCount / rankCount, first + 1))
    }
  }

  /// Where the rows of an expert are cut, `[replicas + 1]`.
  ///
  /// - Parameter rows: the expert's rows of each rank's tokens, `[R]`.
  func cuts(of expert: Int, rows: [Int]) -> [Int] {
    let holders = replicas[expert]
    switch sharing {
    case .evenly:
      let total = rows.reduce(0, +)
      return (0...holders.count).map { $0 * total / holders.count }
    case .byGroup(let size):
      var cuts = [0]
      var first = 0
      for group in 0..<rankCount / size {
        let count = rows[group * size..<(group + 1) * size].reduce(0, +)
        let own = holders.count { $0 / size == group }
        for replica in 1...own { cuts.append(first + replica * count / own) }
        first += count
      }
      return cuts
    }
  }
}
