/// The time and traffic of the forward and the backward pass over one layer with experts, in the stages of
/// `ExpertParallelLayer`.
struct LayerCost {
  /// The seconds of each stage in order; their sum is the time of the passes.
  private(set) var stages = StageTimes()
  /// The bytes that are sent in both passes.
  private(set) var bytes = TrafficSummary()
  /// The pipelines of the group that takes longest.
  private(set) var forward: Pipeline!
  private(set) var backward: Pipeline?
  private(set) var route = Route.direct

  private let topology: Topology
  private let model: ModelShape
  private let workload: Workload
  private let load: GroupLoad
  private let asked: Route?

  init(model: ModelShape, workload: Workload, topology: Topology, load: GroupLoad, route: Route?) {
    (self.topology, self.model, self.workload, self.load) = (topology, model, workload, load)
    asked = route
    self.route = route ?? topology.usualRoutes[0]
    addForward()
    if workload.trains { addBackward() }
  }

  /// The tokens of a rank.
  private var tokens: Double { Double(workload.tokenCount) / Double(topology.rankCount) }
  private var rates: ComputeRates { topology.cluster.rates }
  private var rowBytes: Double { Double(model.hiddenSize * workload.payloadBytes) }

  private mutating func addForward() {
    let router = 2 * tokens * Double(model.expertCount * model.hiddenSize) / rates.flops
    stages.add("route", topology.serial(rates.passSeconds) + topology.elapsed(router))
    stages.add("order", topology.serial(tokens * Double(model.expertsPerToken) * rates.choiceSeconds))
    stages.add("announce", announcements())
    forward = exchangeAndCompute(load.forward, filler: nil, "experts")
  }

  /// The gradient of the output travels like the tokens, with one number per row. Half of the products compute
  /// gradients of rows. The other half compute gradients of weights; they fill waits, and continue while the last
  /// rows return.
  private mutating func addBackward() {
    if workload.recomputes {
      _ = exchangeAndCompute(load.forward, filler: nil, "experts again")
    }
    let router = 2 * tokens * Double(model.expertCount * model.hiddenSize) / rates.flops
    stages.add("router, back", topology.serial(rates.passSeconds) + topology.elapsed(router))
    stages.add(
      "row weights",
      send(Traffic.toParts(rowsPerPart.map { tokens * $0 * 4 }, topology).reversed, as: .announcements))
    let half = load.backward.map { $0.map { $0 / 2 } }
    backward = exchangeAndCompute(half, filler: half, "experts, back")
  }

  /// Adds the exchanges of metadata before tokens travel, and returns their seconds. Each rank tells all ranks its
  /// number of tokens (40 bytes) and its number of choices of each expert (4 bytes, or 4·K if there is a capacity,
  /// which takes first choices before second ones). It tells the ranks of its group how much comes (16 bytes per
  /// slice) and 12 bytes per choice.
  private mutating func announcements() -> Double {
    let everyone = topology.rankCount
    let counts = 4 * model.expertCount * (workload.capacityFactor == nil ? 1 : model.expertsPerToken)
    var seconds = 0.0
    for bytes in [40, Double(counts)] {
      seconds += send(
        Traffic.toPeers(bytes, count: everyone, distance: 1, topology), as: .counts)
    }
    seconds += send(
      Traffic.toPeers(
        16 * Double(topology.split.overlap), count: topology.split.groupSize, distance: 1, topology),
      as: .counts)
    seconds += send(
      Traffic.toParts(rowsPerPart.map { tokens * $0 * 12 }, topology), as: .announcements)
    return seconds
  }

  /// `[EP]`: the expected kept rows of a token in each part.
  private var rowsPerPart: [Double] {
    load.rows.reduce(into: load.rows[0].map { _ in 0.0 }) { sum, rows in
      for part in rows.indices { sum[part] += rows[part] }
    }
  }

  /// Adds an exchange beside which nothing is computed, always on the direct route, and returns its seconds.
  private mutating func send(_ traffic: Traffic, as kind: TrafficSummary.Kind) -> Double {
    bytes.add(traffic, as: kind)
    return ExchangeCost(traffic, topology).longest
  }

  /// Adds tokens out, experts and rows back, in slices, and returns the pipeline of the group that takes longest.
  private mutating func exchangeAndCompute(
    _ compute: [[Double]], filler: [[Double]]?, _ name: String
  ) -> Pipeline {
    // A row is read and written once when it is gathered into the memory that is sent.
    let gathering = 2 * rowBytes / rates.memoryBandwidth
    let packed = (0..<topology.split.overlap).reduce(0.0) { sum, slice in
      sum + load.tokens[slice].reduce(0, +) * Double(topology.split.tensorParallel)
    }
    let packing = topology.elapsed(tokens * packed * gathering)
    var slices: [(out: ExchangeCost, back: ExchangeCost, compute: [Double], filler: [Double]?)] = []
    for slice in 0..<topology.split.overlap {
      let there = Traffic.toParts(load.tokens[slice].map { $0 * tokens * rowBytes }, topology)
      let back = Traffic.toParts(load.rows[slice].map { $0 * tokens * rowBytes }, topology).reversed
      bytes.add(there, as: .tokens)
      bytes.add(back, as: .rows)
      let (out, returning) = (
        ExchangeCost(there, topology) { asked ?? topology.usualRoutes[$0] },
        ExchangeCost(back, topology) { asked ?? topology.usualRoutes[$0] }
      )
      let gathered = (0..<topology.rankCount).map { rank in
        tokens * load.rows[slice][topology.part(rank)] * Double(topology.split.groupSize) * gathering
      }
      let work = zip(compute[slice], gathered).map(+)
      slices.append((out, returning, topology.elapsed(work), filler.map { topology.elapsed($0[slice]) }))
    }
    var longest: Pipeline?
    for group in 0..<topology.split.dataParallel {
      let ranks = topology.ranks(ofGroup: group)
      let pipeline = Pipeline(
        slices.map { slice in
          Pipeline.Slice(
            out: slice.out.network[group], back: slice.back.network[group],
            copyOut: Array(slice.out.copies[ranks]), compute: Array(slice.compute[ranks]),
            copyBack: Array(slice.back.copies[ranks]), filler: slice.filler.map { Array($0[ranks]) })
        })
      if pipeline.duration > longest?.duration ?? -1 { longest = pipeline }
    }
    stages.add("pack", packing)
    stages.add(name, longest!.compute)
    stages.add("exchange", longest!.duration - longest!.compute)
    return longest!
  }
}
