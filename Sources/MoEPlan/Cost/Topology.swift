/// Where the ranks of a split are: on which host, in which group, and with which part of the experts.
package struct Topology {
  let cluster: Cluster
  let split: Split

  package init(cluster: Cluster, split: Split) {
    self.cluster = cluster
    self.split = split
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

  /// The ranks of a group on one host, for each of its hosts.
  func segments(ofGroup group: Int) -> [Range<Int>] {
    let (ranks, width) = (ranks(ofGroup: group), cluster.ranksPerHost)
    return hosts(ofGroup: group).map {
      max(ranks.lowerBound, $0 * width)..<min(ranks.upperBound, ($0 + 1) * width)
    }
  }

  /// The way that `ExpertParallelLayer` takes in a group: by way of hosts where that saves messages.
  func usualRoute(ofGroup group: Int) -> Route {
    let count = hosts(ofGroup: group).count
    return count > 1 && count < split.groupSize ? .hierarchical : .direct
  }

  /// How long ranks take that all compute at once, from the seconds that each one's work takes on all cores of a host.
  ///
  /// A rank has `threadsPerRank` of the cores, and no host finishes before all its work divided by all its cores: the
  /// bound that taking turns reaches (McNaughton 1959).
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

  /// The same where every rank has this work.
  package func elapsed(_ work: Double) -> Double {
    max(work * Double(cluster.coresPerHost) / cluster.threadsPerRank, work * Double(cluster.ranksPerHost))
  }

  /// How long ranks take that each do so many seconds of work on one thread.
  package func serial(_ seconds: Double) -> Double {
    seconds * max(1, Double(cluster.ranksPerHost) / Double(cluster.coresPerHost))
  }
}
