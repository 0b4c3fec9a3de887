/// Exchanges in slices beside computations, played through slice by slice for the ranks of one group, as
/// `ExpertParallelLayer` makes its trips.
///
/// The link carries one slice of tokens after another; a rank's cores copy what comes from their own host and compute the
/// slices in order as they arrive. A slice returns when all ranks have computed it. Work that needs all slices, as the
/// gradients of the experts' weights, goes on beside the last returns.
package struct Pipeline {
  /// One slice: seconds of the link out and back, and of each rank's cores, `[ranks]`.
  package struct Slice {
    var out: Double
    var back: Double
    var copyOut: [Double]
    var compute: [Double]
    var copyBack: [Double]

    package init(out: Double, back: Double, copyOut: [Double], compute: [Double], copyBack: [Double]) {
      (self.out, self.back) = (out, back)
      (self.copyOut, self.compute, self.copyBack) = (copyOut, compute, copyBack)
    }
  }

  /// Seconds until the last rank has everything.
  package let duration: Double
  /// Seconds of the cores of the rank that computes longest, and of the link.
  package let compute: Double
  package let communication: Double
  /// The stretches of that rank.
  package let spans: [TimelineSpan]

  /// - Parameter after: seconds of each rank's work that needs all slices, `[ranks]`.
  package init(_ slices: [Slice], after: [Double]) {
    let work = after.indices.map { rank in slices.reduce(after[rank]) { $0 + $1.compute[rank] } }
    let shown = work.indices.max { work[$0] < work[$1] }!
    var lanes = Lanes(rankCount: after.count, shown: shown)
    var (link, arrivals) = (0.0, [Double]())
    for (index, slice) in slices.enumerated() {
      lanes.record(.link, .out, index, link, link + slice.out)
      link += slice.out
      arrivals.append(link)
    }
    var finished: [Double] = []
    var returned: [Double] = []
    for (index, slice) in slices.enumerated() {
      for rank in work.indices {
        // Copies inside the host go on while the link is at work.
        lanes.spend(rank, slice.copyOut[rank], .out, index)
        lanes.wait(rank, until: arrivals[index])
        lanes.spend(rank, slice.compute[rank], .compute, index)
      }
      finished.append(lanes.last)
      link = max(link, lanes.last)
      lanes.record(.link, .back, index, link, link + slice.back)
      link += slice.back
      returned.append(link)
    }
    for rank in work.indices { lanes.spend(rank, after[rank], .gradients, slices.count - 1) }
    for (index, slice) in slices.enumerated() {
      for rank in work.indices {
        lanes.wait(rank, until: finished[index])
        lanes.spend(rank, slice.copyBack[rank], .back, index)
        lanes.wait(rank, until: returned[index])
      }
    }
    duration = lanes.last
    compute = work[shown]
    communication = slices.reduce(0) { $0 + $1.out + $1.back }
    spans = lanes.spans
  }
}

/// Until when the cores of each rank are busy, and what one of them did.
private struct Lanes {
  private var cores: [Double]
  private let shown: Int
  private(set) var spans: [TimelineSpan] = []

  init(rankCount: Int, shown: Int) {
    cores = Array(repeating: 0, count: rankCount)
    self.shown = shown
  }

  /// When the last rank is done with what it has.
  var last: Double { cores.max()! }

  mutating func wait(_ rank: Int, until time: Double) { cores[rank] = max(cores[rank], time) }

  mutating func spend(_ rank: Int, _ seconds: Double, _ kind: TimelineSpan.Kind, _ slice: Int) {
    if rank == shown { record(.cores, kind, slice, cores[rank], cores[rank] + seconds) }
    cores[rank] += seconds
  }

  mutating func record(
    _ lane: TimelineSpan.Lane, _ kind: TimelineSpan.Kind, _ slice: Int, _ start: Double, _ end: Double
  ) {
    if end > start {
      spans.append(TimelineSpan(lane: lane, kind: kind, slice: slice, start: start, end: end))
    }
  }
}
