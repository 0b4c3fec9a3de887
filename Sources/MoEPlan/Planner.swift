/// Predicts the memory, traffic and time of a model's step on a cluster.
///
/// Every rank has the same number of tokens. A step is predicted stage by stage, each as long as on its slowest rank.
/// Layers with experts and sums of gradients have models of their own; everything else follows from its operations
/// and bytes.
public struct Planner: Sendable {
  /// The model.
  public let model: ModelShape
  /// The work of a step.
  public let workload: Workload
  /// The machines.
  public let cluster: Cluster
  /// The rule that says which part of a group holds which experts.
  public var placement = PlacementRule.contiguous
  /// The route of tokens and rows between hosts; nil for the route that `ExpertParallelLayer` takes: hierarchical if
  /// a group has several hosts and some host has several of its ranks.
  public var route: Route?
  /// `[layers][E]`: the probability that an expert is among the K of a token.
  private let chances: [[Double]]

  /// Makes a planner and checks its values.
  ///
  /// - Throws: ``PlanError`` that names the value that is out of range.
  public init(model: ModelShape, workload: Workload, cluster: Cluster, load: LoadTrace) throws(PlanError) {
    try workload.validate()
    try cluster.validate()
    self.model = model
    self.workload = workload
    self.cluster = cluster
    try require(
      cluster.rankCount * model.expertCount <= 1 << 26,
      "there are \(cluster.rankCount) ranks and \(model.expertCount) experts, expected at most 2^26 pairs of both"
    )
    chances = try load.chances(expertCount: model.expertCount, expertsPerToken: model.expertsPerToken)
  }

  /// Predicts the cost of one split.
  ///
  /// A split that needs more memory than a rank has is predicted too: see ``Prediction/fits``.
  ///
  /// - Throws: ``PlanError`` if the split does not fit the model or the cluster.
  public func predict(_ split: Split) throws(PlanError) -> Prediction {
    try split.validate(model, rankCount: cluster.rankCount)
    let topology = Topology(cluster: cluster, split: split)
    let clock = ExpertClock(
      cluster.rates, model: model, feedForwardSize: model.feedForwardSize / split.tensorParallel,
      parameterBytes: workload.parameterBytes)
    var stages = StageTimes()
    var traffic = TrafficSummary()
    var (rows, imbalance, dropRate) = (0.0, 1.0, 0.0)
    var first: LayerCost?
    for chances in chances {
      let load = GroupLoad(
        chances: chances, model: model, workload: workload, placement: placement, topology: topology,
        clock: clock)
      let layer = LayerCost(
        model: model, workload: workload, topology: topology, load: load, route: route)
      let share = Double(model.layerCount) / Double(self.chances.count)
      stages.add(layer.stages, times: share)
      traffic.add(layer.bytes, times: share)
      let most = load.rankRows.max()!
      rows = max(rows, most)
      imbalance = max(imbalance, most * Double(load.rankRows.count) / load.rankRows.reduce(0, +))
      dropRate += load.dropRate / Double(self.chances.count)
      first = first ?? layer
    }
    let dense = DenseCost(model: model, workload: workload, topology: topology)
    stages.add("dense, forward", dense.forward)
    stages.add("dense, back", dense.backward)
    if workload.trains {
      let sums = GradientSumCost(model: model, workload: workload, topology: topology)
      stages.add("shared gradients", sums.products)
      stages.add("gradient sums", sums.seconds)
      traffic.add(sums.bytes)
    }
    stages.add("optimizer", dense.optimizer)
    let layer = first!
    let prediction = Prediction(
      split: split,
      memory: MemoryEstimate(
        model: model, workload: workload, split: split, rankCount: cluster.rankCount, rows: rows),
      memoryPerRank: cluster.memoryPerRank, traffic: traffic, stages: stages, dropRate: dropRate,
      imbalance: imbalance, overlapEfficiency: layer.overlapEfficiency, route: layer.route,
      timeline: Prediction.Timeline(forward: layer.forward.spans, backward: layer.backward?.spans ?? []))
    let (seconds, bytes) = (prediction.seconds, prediction.memory.total)
    try require(
      seconds > 0 && seconds.isFinite && bytes.isFinite,
      "a step takes \(seconds) s and \(bytes) bytes, expected finite numbers; check the rates and sizes of the cluster"
    )
    return prediction
  }
}

extension LayerCost {
  /// See ``Prediction/overlapEfficiency``.
  fileprivate var overlapEfficiency: Double? {
    var (shorter, hidden) = (0.0, 0.0)
    for pipeline in [forward, backward].compactMap({ $0 }) {
      let less = min(pipeline.compute, pipeline.communication)
      shorter += less
      hidden += min(max(pipeline.compute + pipeline.communication - pipeline.duration, 0), less)
    }
    return shorter > 0 ? hidden / shorter : nil
  }
}
