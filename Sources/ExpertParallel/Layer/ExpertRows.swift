/// The ranks and slices that compute the rows of each expert. Every rank derives them from the counts alone.
struct ExpertRows {
  /// `[R][local experts + 1]`: the index at which the rows of each local expert begin among the rows of a rank.
  let offsets: [[Int]]
  /// `[R][slices + 1]`: the index at which each slice of a rank begins among its rows.
  let cuts: [[Int]]
  /// The number of slices of every rank.
  let sliceCount: Int
  /// The number of shards of an expert's F, on consecutive ranks; 1 without tensor parallelism.
  let shardCount: Int
  /// `[E]`: the replicas of an expert.
  private let replicas: [[Replica]]

  /// A rank that computes a part of an expert's rows; with tensor parallelism, the first of the ranks that hold its
  /// shards.
  private struct Replica {
    var rank: Int
    /// The replica's part of the expert's rows.
    var rows: Range<Int>
    /// The index at which that part begins among the rows of the rank.
    var firstRow: Int
  }

  /// - Parameters:
  ///   - placement: the ranks that hold each expert.
  ///   - rowsByRank: `[R][E]`: the number of rows that each rank's tokens have for each expert.
  ///   - slices: the number of slices of every rank, at least 1.
  init(_ placement: ExpertPlacement, rowsByRank: [[Int]], slices: Int) {
    var replicas: [[Replica]] = (0..<placement.expertCount).map { expert in
      let cuts = placement.cuts(of: expert, rows: rowsByRank.map { $0[expert] })
      return placement.replicas[expert].enumerated().map { index, rank in
        Replica(rank: rank, rows: cuts[index]..<cuts[index + 1], firstRow: 0)
      }
    }
    var offsets: [[Int]] = []
    for (rank, experts) in placement.experts.enumerated() {
      let first = rank - rank % placement.tensorParallelSize
      if rank != first {
        offsets.append(offsets[first])
        continue
      }
      var begins = [0]
      for expert in experts {
        let index = replicas[expert].firstIndex { $0.rank == rank }!
        replicas[expert][index].firstRow = begins.last!
        begins.append(begins.last! + replicas[expert][index].rows.count)
      }
      offsets.append(begins)
    }
    self.replicas = replicas
    self.offsets = offsets
    sliceCount = slices
    shardCount = placement.tensorParallelSize
    cuts = offsets.map { Self.cut($0, slices) }
  }

  /// Returns the rank that computes one of an expert's rows, and the row's index among the rows of that rank.
  ///
  /// - Parameters:
  ///   - expert: the expert.
  ///   - place: the row's index among all rows of the expert.
  func target(_ expert: Int, place: Int) -> (rank: Int, row: Int) {
    let replica = replicas[expert].first { $0.rows.contains(place) }!
    return (replica.rank, replica.firstRow + place - replica.rows.lowerBound)
  }

  /// Returns the first rank of each replica of an expert that has rows, in the order of the rows.
  func holders(_ expert: Int) -> [Int] { replicas[expert].filter { !$0.rows.isEmpty }.map(\.rank) }

  /// Cuts a rank's rows into slices of about equal size.
  ///
  /// A cut lies between two experts if such a place is near, so that the weights of few experts are read twice.
  /// Otherwise it lies at a multiple of 16 rows of an expert, the height of a tile.
  ///
  /// - Parameter offsets: `[local experts + 1]`.
  private static func cut(_ offsets: [Int], _ slices: Int) -> [Int] {
    let count = offsets.last!
    var cuts = [0]
    var expert = 0
    for slice in 1..<max(slices, 1) {
      let ideal = slice * count / slices
      while expert + 2 < offsets.count, offsets[expert + 1] <= ideal { expert += 1 }
      let (first, end) = (offsets[expert], offsets[expert + 1])
      let boundary = ideal - first <= end - ideal ? first : end
      let isNear = abs(boundary - ideal) <= count / slices / 4
      let cut = isNear ? boundary : first + (ideal - first) / 16 * 16
      cuts.append(max(cut, cuts.last!))
    }
    return cuts + [count]
  }
}
