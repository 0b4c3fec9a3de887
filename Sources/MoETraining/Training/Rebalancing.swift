public import ExpertParallel
internal import MoE
internal import MoERun

/// Where experts were placed after a step.
public struct Rebalancing: Sendable {
  /// One layer.
  public struct Layer: Sendable {
    /// Its index in the model.
    public var layer: Int
    /// What the solver found for the load of the last steps.
    public var solution: PlacementSolver.Solution
    /// The rows of the rank that had most.
    public var largestRows: Int
    /// Whether its experts were placed so; they stay where nothing would be gained.
    public var hasChanged: Bool { solution.largestRows < largestRows }
  }

  /// The step.
  public var step: Int
  /// The layers whose experts are spread over ranks.
  public var layers: [Layer]
  /// What was sent between ranks: parameters and the optimizer's memory.
  public var movedBytes = 0
}

/// The rows of each expert in the steps since experts were placed.
struct ExpertLoads {
  private(set) var rows: [Int: [Int]] = [:]

  /// Choices count before any is dropped: what a capacity leaves of them is not known by expert.
  mutating func add(_ metrics: StepRecord) {
    for layer in metrics.layers {
      rows[layer.layer] = rows[layer.layer].map { zip($0, layer.load).map(+) } ?? layer.load
    }
  }
}

extension Trainer {
  /// Places the experts of each layer by their load and moves them, with what the optimizer keeps of them. No bit of what
  /// is computed changes with exact sums of gradients. A collective.
  ///
  /// While they move, each rank has its part of the model and the optimizer twice.
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
