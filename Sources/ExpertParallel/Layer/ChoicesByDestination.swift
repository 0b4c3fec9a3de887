/// This rank's choices, sorted by the rank and the slice that compute them. Within a slice they are in the order of the
/// tokens.
///
/// With tensor parallelism a choice has an entry for each rank that holds a shard of its expert.
struct ChoicesByDestination {
  /// A choice, for one of the ranks that compute it.
  struct Entry {
    /// The index of the choice in `[t, K]`.
    var choice: Int32
    /// The choice's row among the rows of that rank.
    var row: Int32
    /// The shard of the expert's F that the rank holds.
    var shard: Int32
  }

  let rankCount: Int
  let sliceCount: Int
  private var entries: [Entry]
  /// `[R · slices + 1]`: the index at which the entries of each slice of each rank begin.
  private var starts: [Int]

  init(_ order: GlobalOrder, at rows: ExpertRows) {
    rankCount = rows.offsets.count
    sliceCount = rows.sliceCount
    var unsorted: [(bucket: Int, entry: Entry)] = []
    unsorted.reserveCapacity(order.experts.count * rows.shardCount)
    starts = Array(repeating: 0, count: rankCount * sliceCount + 1)
    for (choice, expert) in order.experts.enumerated() where expert >= 0 {
      let (rank, row) = rows.target(Int(expert), place: order.places[choice])
      var slice = 0
      while row >= rows.cuts[rank][slice + 1] { slice += 1 }
      for shard in 0..<rows.shardCount {
        let bucket = (rank + shard) * sliceCount + slice
        starts[bucket + 1] += 1
        unsorted.append((bucket, Entry(choice: Int32(choice), row: Int32(row), shard: Int32(shard))))
      }
    }
    // A stable counting sort.
    for bucket in 0..<rankCount * sliceCount { starts[bucket + 1] += starts[bucket] }
    var next = starts
    entries = Array(repeating: Entry(choice: 0, row: 0, shard: 0), count: unsorted.count)
    for (bucket, entry) in unsorted {
      entries[next[bucket]] = entry
      next[bucket] += 1
    }
  }

  var count: Int { entries.count }

  /// The entries of one slice of one rank.
  subscript(rank: Int, slice: Int) -> ArraySlice<Entry> {
    let bucket = rank * sliceCount + slice
    return entries[starts[bucket]..<starts[bucket + 1]]
  }
}
