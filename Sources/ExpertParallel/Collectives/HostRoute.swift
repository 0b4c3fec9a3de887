/// The route of a block from rank to rank if one message goes from each host to each other host.
///
/// On a host of n ranks, the rank of index g mod n is the server of host g: it sends the blocks of its host to host g,
/// and it receives the blocks of host g and sends each to its rank.
package struct HostRoute {
  /// A block, identified by the rank that sends it and the rank that gets it.
  struct Pair: Hashable {
    var source: Int
    var destination: Int
  }

  let rank: Int
  /// The host of each rank.
  private let hosts: [Int]
  /// The ranks of each host.
  private let ranks: [[Int]]
  private let counts: [Int]

  /// - Parameters:
  ///   - rank: this rank.
  ///   - hosts: `[size]`: a number per rank, equal for ranks of one host.
  ///   - counts: `[size, size]`: the bytes from each rank to each, source by source.
  init(rank: Int, hosts: [Int], counts: [Int]) {
    self.hosts = Self.numbered(hosts)
    var ranks = [[Int]](repeating: [], count: Set(hosts).count)
    for (rank, host) in self.hosts.enumerated() { ranks[host].append(rank) }
    self.rank = rank
    self.ranks = ranks
    self.counts = counts
  }

  /// Numbers hosts from 0, in the order of their first ranks.
  static func numbered(_ hosts: [Int]) -> [Int] {
    var numbers: [Int: Int] = [:]
    return hosts.map { host in
      let number = numbers[host] ?? numbers.count
      numbers[host] = number
      return number
    }
  }

  /// The number of ranks, R.
  var size: Int { hosts.count }
  /// Whether the hierarchical route saves messages: there are several hosts, and some host has several ranks.
  var isOfUse: Bool { Self.isOfUse(hosts: hosts) }

  /// Whether the hierarchical route saves messages.
  ///
  /// - Parameter hosts: `[size]`: the host of each rank.
  package static func isOfUse(hosts: [Int]) -> Bool {
    let count = Set(hosts).count
    return count > 1 && count < hosts.count
  }

  func byteCount(_ pair: Pair) -> Int { counts[pair.source * size + pair.destination] }

  /// Returns whether a rank is on the same host as this rank.
  func isLocal(_ other: Int) -> Bool { hosts[other] == hosts[rank] }

  /// Returns whether this rank and another rank are the servers of each other's hosts.
  func isPartner(_ other: Int) -> Bool {
    !isLocal(other) && server(of: hosts[other], on: hosts[rank]) == rank
      && server(of: hosts[rank], on: hosts[other]) == other
  }

  /// Returns the blocks of the first exchange, within a host: those for the hosts that the target serves, and for the
  /// target.
  func gathered(from source: Int, to target: Int) -> [Pair] {
    guard hosts[source] == hosts[target] else { return [] }
    return servedHosts(target).flatMap { host in ranks[host].map { Pair(source: source, destination: $0) } }
      + [Pair(source: source, destination: target)]
  }

  /// Returns the blocks of the second exchange, between servers: all blocks of one host for another.
  func crossing(from source: Int, to target: Int) -> [Pair] {
    let (here, there) = (hosts[source], hosts[target])
    guard here != there, server(of: there, on: here) == source, server(of: here, on: there) == target else {
      return []
    }
    return ranks[here].flatMap { from in ranks[there].map { Pair(source: from, destination: $0) } }
  }

  /// Returns the blocks of the third exchange, within a host: those for the target that came from the hosts that the
  /// source serves.
  func dealt(from source: Int, to target: Int) -> [Pair] {
    guard hosts[source] == hosts[target] else { return [] }
    return servedHosts(source).flatMap { host in ranks[host].map { Pair(source: $0, destination: target) } }
  }

  private func server(of host: Int, on local: Int) -> Int { ranks[local][host % ranks[local].count] }

  private func servedHosts(_ rank: Int) -> [Int] {
    ranks.indices.filter { $0 != hosts[rank] && server(of: $0, on: hosts[rank]) == rank }
  }
}
