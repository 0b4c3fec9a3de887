public import MoECore

/// The ranks that hold each expert.
///
/// A replica of an expert is one rank, or with tensor parallelism the consecutive ranks that hold the shards of its F.
/// The replicas of an expert divide its rows. Results have the same bits for every placement without tensor
/// parallelism.
public struct ExpertPlacement: Sendable, Equatable {
  /// The rule by which the replicas of an expert divide its rows. Each replica takes a contiguous part in the order of
  /// the batch.
  package enum Sharing: Sendable, Equatable {
    /// As evenly as possible.
    case evenly
    /// By groups of `size` consecutive ranks, each of which holds all experts: data parallelism.
    ///
    /// An expert's rows are cut at the ends of the rows of each group's tokens, so tokens stay in their group. There is
    /// one exception: a capacity that gives first choices priority over the second choices of earlier tokens puts rows
    /// in another order than tokens, and then some tokens cross.
    case byGroup(size: Int)
  }

  /// E.
  public let expertCount: Int
  /// R.
  public let rankCount: Int
  /// The number of shards of an expert's F, each on a rank of its own; 1 for whole experts.
  public let tensorParallelSize: Int
  /// `[R]`: the experts of each rank, in ascending order.
  public let experts: [[Int]]
  /// `[E]`: the first rank of each replica, in ascending order; the other ranks of a replica follow it.
  public let replicas: [[Int]]
  /// The rule by which replicas divide rows.
  package let sharing: Sharing

  /// Places contiguous parts of the experts in order of rank: ⌊E/R⌋ or ⌈E/R⌉ experts per rank; with more ranks than
  /// experts, one expert per rank.
  ///
  /// - Precondition: both numbers are at least 1.
  public init(expertCount: Int, rankCount: Int) {
    precondition(expertCount > 0 && rankCount > 0, "\(expertCount) experts on \(rankCount) ranks")
    self.init(
      expertCount: expertCount, experts: Self.contiguous(expertCount, rankCount), tensorParallelSize: 1,
      sharing: .evenly)
  }

  /// Places experts for expert × data × tensor parallelism: each group of `expertParallelSize` · `tensorParallelSize`
  /// consecutive ranks holds all experts, in contiguous parts; each expert's F is split over `tensorParallelSize`
  /// consecutive ranks.
  ///
  /// - Throws: `MoEError.invalidConfiguration` if the ranks do not divide into such groups.
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
    let parts = Self.contiguous(expertCount, expertParallelSize)
    self.init(
      expertCount: expertCount,
      experts: (0..<rankCount / tensorParallelSize).map { parts[$0 % expertParallelSize] },
      tensorParallelSize: tensorParallelSize, sharing: group == rankCount ? .evenly : .byGroup(size: group))
  }

  /// Places experts as given. The ranks of an expert divide its rows evenly.
  ///
  /// - Parameters:
  ///   - expertCount: E.
  ///   - experts: `[R]`: the experts of each rank, in any order.
  /// - Throws: `MoEError.invalidConfiguration` for a rank without an expert, an expert without a rank or twice on one
  ///   rank, or a number outside 0 to E − 1.
  public init(expertCount: Int, experts: [[Int]]) throws(MoEError) {
    for (what, number) in [("experts", expertCount), ("ranks", experts.count)] where number < 1 {
      throw .invalidConfiguration("the number of \(what) is \(number), expected at least 1")
    }
    for (rank, local) in experts.enumerated() {
      if local.isEmpty { throw .invalidConfiguration("rank \(rank) has no expert") }
      if let wrong = local.first(where: { !(0..<expertCount).contains($0) }) {
        throw .invalidConfiguration("rank \(rank) has expert \(wrong), expected 0 to \(expertCount - 1)")
      }
      if Set(local).count < local.count {
        throw .invalidConfiguration("rank \(rank) has an expert twice, in \(local)")
      }
    }
    let placed = Set(experts.joined())
    if let missing = (0..<expertCount).first(where: { !placed.contains($0) }) {
      throw .invalidConfiguration("expert \(missing) is on no rank")
    }
    self.init(
      expertCount: expertCount, experts: experts.map { $0.sorted() }, tensorParallelSize: 1, sharing: .evenly)
  }

  /// - Parameter parts: the experts of each group of `tensorParallelSize` consecutive ranks.
  private init(expertCount: Int, experts parts: [[Int]], tensorParallelSize: Int, sharing: Sharing) {
    self.expertCount = expertCount
    self.tensorParallelSize = tensorParallelSize
    self.sharing = sharing
    rankCount = parts.count * tensorParallelSize
    experts = (0..<rankCount).map { parts[$0 / tensorParallelSize] }
    var replicas: [[Int]] = Array(repeating: [], count: expertCount)
    for (index, part) in parts.enumerated() {
      for expert in part { replicas[expert].append(index * tensorParallelSize) }
    }
    self.replicas = replicas
  }

  private static func contiguous(_ expertCount: Int, _ rankCount: Int) -> [[Int]] {
    (0..<rankCount).map { rank in
      let first = rank * expertCount / rankCount
      return Array(first..<max((rank + 1) * expertCount / rankCount, first + 1))
    }
  }

  /// Returns where the rows of an expert are cut into the parts of its replicas, `[replicas + 1]`.
  ///
  /// - Parameters:
  ///   - expert: the expert.
  ///   - rows: `[R]`: the expert's rows of each rank's tokens.
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
        let replicas = holders.count { $0 / size == group }
        for replica in 1...replicas { cuts.append(first + replica * count / replicas) }
        first += count
      }
      return cuts
    }
  }
}
