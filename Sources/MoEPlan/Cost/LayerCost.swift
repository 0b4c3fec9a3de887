/// Time and traffic of the forward and the backward pass over one layer with experts, stage by stage as
/// `ExpertParallelLayer` goes through them.
struct LayerCost {
  /// Seconds by stage, in order; they add up to the passes.
  private(set) var stages = StageTimes()
  /// What is sent in both passes.
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
    self.route = route ?? topology.usualRoute(ofGroup: 0)
    addForward()
    if workload.trains { addBackward() }
  }

  /// Tokens of a rank.
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

  /// The gradient of the output travels as the tokens did, with a number for each row; half of the products are those
  /// of the rows' gradients, the other half, of the weights' gradients, fill waits and go on beside the last rows' way back.
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

  /// Exchanges of numbers before tokens travel: each rank tells all how many tokens it has (40 bytes) and how many
  /// choices of each expert (4 bytes, and for each of the K choices apart where a capacity takes them in turn), and
  /// its group how much comes (16 bytes a slice) and 12 bytes of each choice.
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

  /// A token's expected kept rows in each part.
  private var rowsPerPart: [Double] {
    load.rows.reduce(into: load.rows[0].map { _ in 0.0 }) { sum, rows in
      for part in rows.indices { sum[part] += rows[part] }
    }
  }

  /// One exchange that nothing goes on beside; these go from each rank to each.
  private mutating func send(_ traffic: Traffic, as kind: TrafficSummary.Kind) -> Double {
    bytes.add(traffic, as: kind)
    return ExchangeCost(traffic, topology).longest
  }

  /// Tokens out, experts, rows back, in slices.
  private mutating func exchangeAndCompute(
    _ compute: [[Double]], filler: [[Double]]?, _ name: String
  ) -> Pipeline {
    // Rows are read and written when they are gathered into what is sent.
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
        ExchangeCost(there, topology) { asked ?? topology.usualRoute(ofGroup: $0) },
        ExchangeCost(back, topology) { asked ?? topology.usualRoute(ofGroup: $0) }
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
