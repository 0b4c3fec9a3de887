public import ExpertParallel
internal import MoE
internal import MoERun

/// The new placements of experts after a step.
public struct Rebalancing: Sendable {
  /// The placement of one layer.
  public struct Layer: Sendable {
    /// The layer's index in the model.
    public var layer: Int
    /// The placement that the solver found for the load since the last placement.
    public var solution: PlacementSolver.Solution
    /// The rows of the busiest rank with the old placement.
    public var largestRows: Int
    /// Whether the experts moved. They stay where the new placement has no advantage.
    public var hasChanged: Bool { solution.largestRows < largestRows }
  }

  /// The step after which experts were placed anew.
  public var step: Int
  /// The layers whose experts are spread over ranks.
  public var layers: [Layer]
  /// The bytes of parameters and optimizer state that were sent between ranks.
  public var movedBytes = 0
}

/// The number of rows of each expert since experts were last placed, by the index of the layer.
struct ExpertLoads {
  private(set) var rows: [Int: [Int]] = [:]

  /// Adds the choices of a step, before any is dropped: the number of dropped choices is not known per expert.
  mutating func add(_ metrics: StepRecord) {
    for layer in metrics.layers {
      rows[layer.layer] = rows[layer.layer].map { zip($0, layer.load).map(+) } ?? layer.load
    }
  }
}

extension Trainer {
  /// Places the experts of each layer by their load, and moves their parameters and optimizer state. With exact sums
  /// of gradients, this changes no bit of the training. A collective.
  ///
  /// While it runs, each rank has its part of the model and of the optimizer state twice in memory.
  ///
  /// - Returns: the placements; nil where the model has no ranks.
  ///
  /// - Throws: `MoEError`, `CommunicationError`.
  func rebalance(_ loads: ExpertLoads, _ options: RebalancingOptions) throws -> Rebalancing? {
    guard var ranks = model.ranks else { return nil }
    var result = Rebalancing(step: step, layers: [])
    let size = ranks.communicator.size
    for layer in model.layers.map(\.feedForward) where layer.layer.isSpread {
      guard let load = loads.rows[layer.index] else { continue }
      let solver = try PlacementSolver(
        expertCount: load.count, rankCount: size,
        slotCount: (load.count + options.copyCount + size - 1) / size, extraCount: options.copyCount)
      let placement = try ranks.placement(layer: layer.index, expertCount: load.count)
      let found = Rebalancing.Layer(
        layer: layer.index, solution: try solver.solve(load: load),
        largestRows: solver.rows(of: placement, load: load).max()!)
      if found.hasChanged { ranks.placements[layer.index] = found.solution.placement }
      result.layers.append(found)
    }
    if !result.layers.contains(where: \.hasChanged) { return result }
    let next = try LanguageModel(description, over: ranks, execution: execution)
    let nextOptimizer = try description.training.optimizer.optimizer(
      of: next.parameters, execution: execution)
    let received = try redistribute(
      from: TrainingCheckpoint(model, optimizer).entries, to: TrainingCheckpoint(next, nextOptimizer).entries,
      over: ranks.communicator)
    result.movedBytes = try ranks.communicator.allReduce(received, .sum, during: "the bytes of moved experts")
    next.parametersChanged(after: nil)
    (model, optimizer) = (next, nextOptimizer)
    return result
  }
}
