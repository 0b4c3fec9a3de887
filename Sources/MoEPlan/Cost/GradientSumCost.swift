/// Time and traffic of the gradients that several ranks add up: of a step, all layers at once.
///
/// Products of the gradients of shared parameters are counted here: 2·T·P over ranks that compute at once where sums
/// are reduced, one rank after another where they are exact.
struct GradientSumCost {
  /// Seconds of the products, where no rank waits for another's.
  private(set) var products = 0.0
  /// Seconds of the sums, and of products that wait for one another.
  private(set) var seconds = 0.0
  private(set) var bytes = TrafficSummary()

  init(model: ModelShape, workload: Workload, topology: Topology) {
    let (split, rates) = (topology.split, topology.cluster.rates)
    let embedding = model.vocabularySize * model.hiddenSize
    let products =
      2 * Double(workload.tokenCount) / Double(topology.rankCount) * Double(model.sharedParameters)
      / rates.flops
    let experts = (model.expertCount + split.expertParallel - 1) / split.expertParallel
    let replicated =
      Double(model.layerCount) * Double(experts) * Double(model.expertParameters / split.tensorParallel)
    switch workload.gradientSum {
    case .reduced:
      self.products = topology.elapsed(products)
      reduce(Double(model.sharedParameters), count: topology.rankCount, distance: 1, topology)
      reduce(replicated, count: split.dataParallel, distance: split.groupSize, topology)
    case .exact:
      // One rank computes while the others wait.
      seconds +=
        Double(topology.rankCount) * products * Double(topology.cluster.coresPerHost)
        / topology.cluster.threadsPerRank
      // A layer at a time: router and dense branch, attention, and once the embedding.
      let messages = Double(model.layerCount * 2 + (embedding > 0 ? 1 : 0))
      chain(
        Double(model.sharedParameters), messages: messages, count: topology.rankCount, distance: 1, topology)
      chain(
        replicated, messages: Double(2 * model.layerCount), count: split.dataParallel,
        distance: split.groupSize,
        topology)
    }
  }

  /// An all-reduce of so many floats over `count` ranks: each rank owns a share, gets it from all and gives it to all,
  /// and adds what it gets.
  private mutating func reduce(
    _ values: Double, count: Int, distance: Int, _ topology: Topology
  ) {
    guard count > 1 else { return }
    let share = Traffic.toPeers(values * 4 / Double(count), count: count, distance: distance, topology)
    let cost = ExchangeCost(share, topology)
    seconds += 2 * cost.longest + topology.elapsed(values * 8 / topology.cluster.rates.memoryBandwidth)
    for _ in 0..<2 { bytes.add(share, as: .gradients) }
  }

  /// Sums that go from rank to rank, `count` − 1 times one after another, and from the last to all: dealt out and
  /// gathered.
  private mutating func chain(
    _ values: Double, messages: Double, count: Int, distance: Int, _ topology: Topology
  ) {
    guard count > 1 else { return }
    let cluster = topology.cluster
    let size = values * 4
    let share = Traffic.toPeers(size / Double(count), count: count, distance: distance, topology)
    let last = Double(count - 1)
    // All ranks of a host are peers, or none: where they are, every ranksPerHost-th hop leaves a host.
    let neighbours = share.insideMessages[0]
    let hopsBetween = (last / (neighbours + 1)).rounded(.down)
    let hopsInside = last - hopsBetween
    seconds += hopsBetween * (messages * cluster.link.latency + size / cluster.link.bandwidth)
    // One thread copies.
    let alone = cluster.intra.bandwidth / Double(cluster.coresPerHost)
    seconds += hopsInside * (messages * cluster.intra.latency + size / alone)
    seconds += 2 * messages * ExchangeCost(share.scaled(1 / messages), topology).longest
    var hops = Traffic(rankCount: topology.rankCount)
    let chains = Double(topology.rankCount / count)
    hops.insideOut[0] = chains * hopsInside * size
    hops.betweenOut[0] = chains * hopsBetween * size
    bytes.add(hops, as: .gradients)
    bytes.add(share, as: .gradients)
  }
}
