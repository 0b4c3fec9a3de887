import ExpertParallel

/// The host, the group and the part of the experts of each rank of a split.
package struct Topology {
  let cluster: Cluster
  let split: Split
  /// `[DP]`: the route that `ExpertParallelLayer` takes in each group: hierarchical if that saves messages.
  private(set) var usualRoutes: [Route] = []

  package init(cluster: Cluster, split: Split) {
    self.cluster = cluster
    self.split = split
    usualRoutes = (0..<split.dataParallel).map { group in
      HostRoute.isOfUse(hosts: ranks(ofGroup: group).map(host)) ? .hierarchical : .direct
    }
  }

  var rankCount: Int { cluster.rankCount }
  package func host(_ rank: Int) -> Int { rank / cluster.ranksPerHost }
  package func group(_ rank: Int) -> Int { rank / split.groupSize }
  package func part(_ rank: Int) -> Int { rank % split.groupSize / split.tensorParallel }
  func ranks(ofGroup group: Int) -> Range<Int> { group * split.groupSize..<(group + 1) * split.groupSize }
  func hosts(ofGroup group: Int) -> ClosedRange<Int> {
    let ranks = ranks(ofGroup: group)
    return host(ranks.lowerBound)...host(ranks.upperBound - 1)
  }

  /// Returns the ranks of a group on each of its hosts.
  func segments(ofGroup group: Int) -> [Range<Int>] {
    let (ranks, width) = (ranks(ofGroup: group), cluster.ranksPerHost)
    return hosts(ofGroup: group).map {
      max(ranks.lowerBound, $0 * width)..<min(ranks.upperBound, ($0 + 1) * width)
    }
  }

  /// Returns the seconds of each rank if all ranks compute at once.
  ///
  /// A rank has `threadsPerRank` of the cores. A host cannot finish earlier than all its work divided by all its
  /// cores, and ranks that take turns reach that bound (McNaughton 1959).
  ///
  /// - Parameter works: `[R]`: the seconds that each rank's work would take on all cores of a host.
  package func elapsed(_ works: [Double]) -> [Double] {
    let (width, stretch) = (cluster.ranksPerHost, Double(cluster.coresPerHost) / cluster.threadsPerRank)
    var times = works
    for first in stride(from: 0, to: works.count, by: width) {
      let total = works[first..<first + width].reduce(0, +)
      for rank in first..<first + width {
        times[rank] = max(works[rank] * stretch, cluster.ranksPerHost > cluster.coresPerHost ? total : 0)
      }
    }
    return times
  }

  /// Returns the seconds of every rank if all ranks have equal work.
  package func elapsed(_ work: Double) -> Double {
    max(work * Double(cluster.coresPerHost) / cluster.threadsPerRank, work * Double(cluster.ranksPerHost))
  }

  /// Returns the seconds of every rank if each has `seconds` of work for one thread.
  package func serial(_ seconds: Double) -> Double {
    seconds * max(1, Double(cluster.ranksPerHost) / Double(cluster.coresPerHost))
  }
}
