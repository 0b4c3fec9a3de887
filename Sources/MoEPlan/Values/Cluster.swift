/// Hosts with equal numbers of ranks, and how fast they compute and send.
///
/// The ranks of a host share its cores, its memory and its link, so numbers of a host are divided by its ranks.
public struct Cluster: Sendable, Equatable, Codable {
  /// The number of hosts.
  public var hostCount: Int
  /// The number of ranks on each host. Ranks 0 to `ranksPerHost` − 1 are on the first host.
  public var ranksPerHost: Int
  /// The number of cores of a host. If it has fewer cores than ranks, the ranks take turns.
  public var coresPerHost: Int
  /// Bytes of memory of a host.
  public var memory: Double
  /// The link between hosts: a host's network interface.
  public var link: Link
  /// The link between ranks of a host: its cores copy the bytes, which takes their time.
  public var intra: Link
  /// How fast a host computes.
  public var rates: ComputeRates

  /// Makes a description and checks it.
  ///
  /// - Throws: ``PlanError`` that names the value that is out of range.
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

  /// R, the number of ranks.
  public var rankCount: Int { hostCount * ranksPerHost }
  /// The threads of a rank: its share of the cores, at least one.
  var threadsPerRank: Double { max(1, (Double(coresPerHost) / Double(ranksPerHost)).rounded(.down)) }
  /// The bytes of memory that a rank may use.
  package var memoryPerRank: Double { memory / Double(ranksPerHost) }

  /// Checks every number.
  ///
  /// - Throws: ``PlanError`` that names the value that is out of range.
  package func validate() throws(PlanError) {
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
