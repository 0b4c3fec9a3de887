/// A simulation of exchanges in slices beside computation, slice by slice, for the ranks of one group of an
/// `ExpertParallelLayer`.
///
/// The link carries one slice of tokens after another. A rank's cores copy the bytes that come from their own host,
/// and compute the slices in order as they arrive. A slice returns when all ranks have computed it. Gradients of the
/// experts' weights need a slice to be computed; they fill waits, and continue while the last slices return. The
/// simulation can interrupt them at any moment. In the layer, the next slice waits until the gradients of one slice
/// are done.
package struct Pipeline {
  /// One slice: the seconds of the link out and back, and of each rank's cores, `[ranks]`.
  package struct Slice {
    var out: Double
    var back: Double
    var copyOut: [Double]
    var compute: [Double]
    var copyBack: [Double]
    /// Seconds of work that may fill waits once the slice is computed.
    var filler: [Double]

    package init(
      out: Double, back: Double, copyOut: [Double], compute: [Double], copyBack: [Double],
      filler: [Double]? = nil
    ) {
      (self.out, self.back) = (out, back)
      (self.copyOut, self.compute, self.copyBack) = (copyOut, compute, copyBack)
      self.filler = filler ?? compute.map { _ in 0 }
    }
  }

  /// Seconds until the last rank has all its rows back.
  package let duration: Double
  /// Seconds of the cores of the rank that computes longest, and of the link.
  package let compute: Double
  package let communication: Double
  /// The work of that rank and its link over time.
  package let spans: [TimelineSpan]

  package init(_ slices: [Slice]) {
    let work = slices[0].compute.indices.map { rank in
      slices.reduce(0) { $0 + $1.compute[rank] + $1.filler[rank] }
    }
    let shown = work.indices.max { work[$0] < work[$1] }!
    var lanes = Lanes(rankCount: work.count, shown: shown)
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
        // Copies inside the host overlap with the link.
        lanes.spend(rank, slice.copyOut[rank], .out, index)
        lanes.wait(rank, until: arrivals[index])
        lanes.spend(rank, slice.compute[rank], .compute, index)
        lanes.pending[rank] += slice.filler[rank]
      }
      finished.append(lanes.last)
      link = max(link, lanes.last)
      lanes.record(.link, .back, index, link, link + slice.back)
      link += slice.back
      returned.append(link)
    }
    for rank in work.indices { lanes.wait(rank, until: .infinity) }
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

/// The time until which each rank's cores are busy, and the work of one shown rank.
private struct Lanes {
  private var cores: [Double]
  /// Seconds of work of each rank that can start at any time.
  var pending: [Double]
  private let shown: Int
  private(set) var spans: [TimelineSpan] = []

  init(rankCount: Int, shown: Int) {
    cores = Array(repeating: 0, count: rankCount)
    pending = cores
    self.shown = shown
  }

  /// The time at which the last rank finishes its work so far.
  var last: Double { cores.max()! }

  /// Does pending work until `time`, then waits. With infinity, does all pending work.
  mutating func wait(_ rank: Int, until time: Double) {
    let filled = min(pending[rank], max(time - cores[rank], 0))
    spend(rank, filled, .gradients, 0)
    pending[rank] -= filled
    if time < .infinity { cores[rank] = max(cores[rank], time) }
  }

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
