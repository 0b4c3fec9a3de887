/// Hosts with the same number of ranks each, and what they compute and send with.
///
/// All ranks of a host share its cores, its memory and its link: what is said of a host is divided by them.
public struct Cluster: Sendable, Equatable, Codable {
  /// Hosts.
  public var hostCount: Int
  /// Ranks on each host; ranks 0 to `ranksPerHost` − 1 are on the first.
  public var ranksPerHost: Int
  /// Cores of a host. With fewer than ranks, the ranks take turns.
  public var coresPerHost: Int
  /// Bytes of memory of a host.
  public var memory: Double
  /// Between hosts: a host's network interface.
  public var link: Link
  /// Between ranks of a host: copies by its cores, whose time they take.
  public var intra: Link
  /// What a host computes.
  public var rates: ComputeRates

  /// Collects the description and checks it.
  ///
  /// - Throws: ``PlanError`` naming the value that cannot be.
  public init(
    hostCount: Int, ranksPerHost: Int, coresPerHost: Int, memory: Double, link: Link, intra: Link,
    rates: ComputeRates
  ) throws(PlanError) {
    self.hostCount = hostCount
    self.ranksPerHost = ranksPerHost
    self.coresPerHost = coresPerHost
    self.memory = memory
    self.link = link
    self.intra = intra
    self.rates = rates
    try validate()
  }

  /// R.
  public var rankCount: Int { hostCount * ranksPerHost }
  /// Threads of a rank: its cores, at least one.
  var threadsPerRank: Double { max(1, (Double(coresPerHost) / Double(ranksPerHost)).rounded(.down)) }
  /// Bytes of memory a rank may use.
  public var memoryPerRank: Double { memory / Double(ranksPerHost) }

  /// Checks every number.
  ///
  /// - Throws: ``PlanError`` naming the one that cannot be.
  public func validate() throws(PlanError) {
    for (name, count) in [
      ("hosts", hostCount), ("ranks per host", ranksPerHost), ("cores per host", coresPerHost),
    ] {
      try require((1...1 << 16).contains(count), "there are \(count) \(name), expected 1 to 65536")
    }
    try require(
      rankCount <= 1 << 17,
      "\(hostCount) hosts of \(ranksPerHost) ranks are \(rankCount) ranks, expected at most 131072")
    try require((1...1e18).contains(memory), "a host has \(memory) bytes of memory, expected 1 to 10^18")
    try link.validate("the link between hosts")
    try intra.validate("the link inside a host")
    try rates.validate()
  }
}
