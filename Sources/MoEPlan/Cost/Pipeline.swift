/// Exchanges in slices beside computations, played through slice by slice for the ranks of one group.
///
/// A rank's cores copy and compute the slices in order as they arrive; the link carries what was posted first. A slice
/// returns when all ranks have computed it. Work that waits for nothing, the gradients of weights of slices that are
/// done, fills the gaps where there are several slices; with one slice nothing overlaps.
struct Pipeline {
  /// One slice: seconds of the link out and back, and of each rank's cores, `[ranks]`.
  struct Slice {
    var out: Double
    var back: Double
    var copyOut: [Double]
    var compute: [Double]
    var copyBack: [Double]
    /// What may fill gaps once the slice is computed.
    var filler: [Double]
  }

  /// n.
  let sliceCount: Int
  /// Seconds until the last rank has everything.
  private(set) var duration = 0.0
  /// Seconds of the busiest rank's cores, and of the exchanges.
  private(set) var compute = 0.0
  private(set) var communication = 0.0
  /// The stretches of the rank that computes longest.
  private(set) var spans: [TimelineSpan] = []

  init(_ slices: [Slice]) {
    sliceCount = slices.count
    let ranks = slices[0].compute.indices
    let work = ranks.map { rank in slices.reduce(0) { $0 + $1.compute[rank] + $1.filler[rank] } }
    let shown = ranks.max { work[$0] < work[$1] }!
    var cores = [Double](repeating: 0, count: ranks.count)
    var pending = cores
    var link = 0.0
    func record(
      _ lane: TimelineSpan.Lane, _ kind: TimelineSpan.Kind, _ slice: Int, _ start: Double, _ end: Double
    ) {
      if end > start {
        spans.append(TimelineSpan(lane: lane, kind: kind, slice: slice, start: start, end: end))
      }
    }
    /// Lets a rank's cores do waiting work until `time`, and then wait.
    func wait(_ rank: Int, until time: Double, _ slice: Int) {
      guard time > cores[rank] else { return }
      let filled = slices.count > 1 ? min(pending[rank], time - cores[rank]) : 0
      if rank == shown { record(.cores, .gradients, slice, cores[rank], cores[rank] + filled) }
      pending[rank] -= filled
      cores[rank] = time
    }
    func spend(_ rank: Int, _ seconds: Double, _ kind: TimelineSpan.Kind, _ slice: Int) {
      if rank == shown { record(.cores, kind, slice, cores[rank], cores[rank] + seconds) }
      cores[rank] += seconds
    }

    let arrivals = slices.enumerated().map { index, slice in
      record(.link, .out, index, link, link + slice.out)
      link += slice.out
      return link
    }
    var finished: [Double] = []
    var returned: [Double] = []
    for (index, slice) in slices.enumerated() {
      var done = 0.0
      // Copies inside the host go on while the link is at work.
      for rank in ranks { spend(rank, slice.copyOut[rank], .out, index) }
      let together = slices.count == 1 ? max(arrivals[index], cores.max()!) : arrivals[index]
      for rank in ranks {
        wait(rank, until: together, index)
        spend(rank, slice.compute[rank], .compute, index)
        pending[rank] += slice.filler[rank]
        done = max(done, cores[rank])
      }
      finished.append(done)
      link = max(link, done)
      record(.link, .back, index, link, link + slice.back)
      link += slice.back
      returned.append(link)
    }
    for (index, slice) in slices.enumerated() {
      for rank in ranks {
        wait(rank, until: finished[index], index)
        spend(rank, slice.copyBack[rank], .back, index)
        wait(rank, until: returned[index], index)
      }
    }
    if slices.count == 1 {
      let end = cores.max()!
      for rank in ranks { cores[rank] = end }
    }
    for rank in ranks { spend(rank, pending[rank], .gradients, slices.count - 1) }
    duration = cores.max()!
    compute = work[shown]
    communication = slices.reduce(0) { $0 + $1.out + $1.back }
  }
}
