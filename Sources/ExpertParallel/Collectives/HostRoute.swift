/// Which way a block takes from rank to rank where one message goes from each host to each other.
///
/// Of the n ranks of a host, the one of index g mod n serves host g: it sends to g what its host has for it, and receives
/// and deals out what g sends.
struct HostRoute {
  /// A block by the ranks that it is from and for.
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
  ///   - hosts: `[size]`: any number for each host.
  ///   - counts: `[size, size]`: the bytes from each rank to each.
  init(rank: Int, hosts: [Int], counts: [Int]) {
    self.hosts = Self.numbered(hosts)
    var ranks = [[Int]](repeating: [], count: Set(hosts).count)
    for (rank, host) in self.hosts.enumerated() { ranks[host].append(rank) }
    self.rank = rank
    self.ranks = ranks
    self.counts = counts
  }

  /// The same hosts numbered from 0, in the order in which ranks are first on them.
  static func numbered(_ hosts: [Int]) -> [Int] {
    var numbers: [Int: Int] = [:]
    return hosts.map { host in
      let number = numbers[host] ?? numbers.count
      numbers[host] = number
      return number
    }
  }

  /// R.
  var size: Int { hosts.count }
  /// Whether messages are saved: some host has several ranks, and there are several hosts.
  var isOfUse: Bool { Self.isOfUse(hosts: hosts) }

  /// The same of the host of each rank.
  static func isOfUse(hosts: [Int]) -> Bool {
    let count = Set(hosts).count
    return count > 1 && count < hosts.count
  }

  func byteCount(_ pair: Pair) -> Int { counts[pair.source * size + pair.destination] }

  /// Whether a rank is on this one's host.
  func isLocal(_ other: Int) -> Bool { hosts[other] == hosts[rank] }

  /// Whether this rank and another exchange for their hosts.
  func isPartner(_ other: Int) -> Bool {
    !isLocal(other) && server(of: hosts[other], on: hosts[rank]) == rank
      && server(of: hosts[rank], on: hosts[other]) == other
  }

  /// Within a host: blocks of the source for the hosts that the target serves, and for the target itself.
  func gathered(from source: Int, to target: Int) -> [Pair] {
    guard hosts[source] == hosts[target] else { return [] }
    return servedHosts(target).flatMap { host in ranks[host].map { Pair(source: source, destination: $0) } }
      + [Pair(source: source, destination: target)]
  }

  /// Between hosts: all blocks of one host for another, where the two ranks serve each other's.
  func crossing(from source: Int, to target: Int) -> [Pair] {
    let (here, there) = (hosts[source], hosts[target])
    guard here != there, server(of: there, on: here) == source, server(of: here, on: there) == target else {
      return []
    }
    return ranks[here].flatMap { own in ranks[there].map { Pair(source: own, destination: $0) } }
  }

  /// Within a host: blocks for the target that came from the hosts that the source serves.
  func dealt(from source: Int, to target: Int) -> [Pair] {
    guard hosts[source] == hosts[target] else { return [] }
    return servedHosts(source).flatMap { host in ranks[host].map { Pair(source: $0, destination: target) } }
  }

  private func server(of host: Int, on own: Int) -> Int { ranks[own][host % ranks[own].count] }

  private func servedHosts(_ rank: Int) -> [Int] {
    ranks.indices.filter { $0 != hosts[rank] && server(of: $0, on: hosts[rank]) == rank }
  }
}
