/// Where the rows of each expert are computed, and in which slices: known to every rank from the counts alone.
struct ExpertRows {
  /// `[R][local experts + 1]`: where the rows of each begin among those of a rank.
  let offsets: [[Int]]
  /// `[R][slices + 1]`: the rows of each slice of a rank.
  let cuts: [[Int]]
  /// `[E]`: the parts of an expert's rows, each with the first rank that computes it and where the part begins there.
  private let parts: [[Part]]

  private struct Part {
    var rank: Int
    var rows: Range<Int>
    var firstRow: Int
  }

  /// - Parameter rowsByRank: `[R][E]`, the rows of each rank's tokens.
  init(_ placement: ExpertPlacement, rowsByRank: [[Int]], slices: Int) {
    var parts: [[Part]] = (0..<placement.expertCount).map { expert in
      let cuts = placement.cuts(of: expert, rows: rowsByRank.map { $0[expert] })
      return placement.replicas[expert].enumerated().map { index, rank in
        Part(rank: rank, rows: cuts[index]..<cuts[index + 1], firstRow: 0)
      }
    }
    var offsets: [[Int]] = []
    for (rank, experts) in placement.experts.enumerated() {
      let first = rank - rank % placement.tensorParallelSize
      if rank != first {
        offsets.append(offsets[first])
        continue
      }
      var own = [0]
      for expert in experts {
        let index = parts[expert].firstIndex { $0.rank == rank }!
        parts[expert][index].firstRow = own.last!
        own.append(own.last! + parts[expert][index].rows.count)
      }
      offsets.append(own)
    }
    self.parts = parts
    self.offsets = offsets
    cuts = offsets.map { Self.cut($0, slices) }
  }

  /// The first rank that computes a place among an expert's rows, and its row there.
  func target(_ expert: Int, place: Int) -> (rank: Int, row: Int) {
    let part = parts[expert].first { $0.rows.contains(place) }!
    return (part.rank, part.firstRow + place - part.rows.lowerBound)
  }

  /// The replicas of an expert that have rows, by their first ranks, in the order of the rows.
  func holders(_ expert: Int) -> [Int] { parts[expert].filter { !$0.rows.isEmpty }.map(\.rank) }

  /// Cuts a rank's rows into slices of about equal size: between two experts where that is near, so that the weights of
  /// few are read twice, and at multiples of 16 rows elsewhere.
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
