/// The time and traffic of adding gradients over ranks, for all layers of a step at once.
///
/// The products that compute the gradients of shared parameters, 2·T·P operations, are counted here too. With reduced
/// sums, all ranks compute them at once; with exact sums, one rank after another.
struct GradientSumCost {
  /// Seconds of products that wait for no other rank.
  private(set) var products = 0.0
  /// Seconds of the sums, and of products that wait for another rank's.
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
      // Two messages per layer, one for router and dense branch and one for attention, and one for the embedding.
      let messages = Double(model.layerCount * 2 + (embedding > 0 ? 1 : 0))
      chain(
        Double(model.sharedParameters), messages: messages, count: topology.rankCount, distance: 1, topology)
      chain(
        replicated, messages: Double(2 * model.layerCount), count: split.dataParallel,
        distance: split.groupSize,
        topology)
    }
  }

  /// Adds an all-reduce of `values` floats over `count` ranks. Each rank owns a share of the values, receives it from
  /// all ranks, adds, and sends the sum to all ranks.
  ///
  /// - Parameter distance: the difference of consecutive ranks among these.
  private mutating func reduce(
    _ values: Double, count: Int, distance: Int, _ topology: Topology
  ) {
    guard count > 1 else { return }
    let share = Traffic.toPeers(values * 4 / Double(count), count: count, distance: distance, topology)
    let cost = ExchangeCost(share, topology)
    seconds += 2 * cost.longest + topology.elapsed(values * 8 / topology.cluster.rates.memoryBandwidth)
    for _ in 0..<2 { bytes.add(share, as: .gradients) }
  }

  /// Adds sums that travel from rank to rank, `count` − 1 times one after another. The last rank then sends them to
  /// all, by handing out shares that all ranks gather.
  private mutating func chain(
    _ values: Double, messages: Double, count: Int, distance: Int, _ topology: Topology
  ) {
    guard count > 1 else { return }
    let cluster = topology.cluster
    let size = values * 4
    let share = Traffic.toPeers(size / Double(count), count: count, distance: distance, topology)
    let last = Double(count - 1)
    // Either all ranks of a host are peers or none are. If they are, every ranksPerHost-th hop leaves a host.
    let neighbours = share.insideMessages[0]
    let hopsBetween = (last / (neighbours + 1)).rounded(.down)
    let hopsInside = last - hopsBetween
    seconds += hopsBetween * (messages * cluster.link.latency + size / cluster.link.bandwidth)
    // Only one thread copies, at its share of the host's rate.
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
