public import MoECore

/// The MoE block of one layer of a checkpoint. Each parameter is read from the mapped file when it is asked for.
public struct CheckpointLayer: MoEWeightSource, Sendable {
  /// Its name in ``Checkpoint/moeLayers``.
  public let name: String
  /// The sizes and rules of the block.
  public let configuration: MoEConfiguration
  let prefix: String
  let layout: BlockLayout
  let folder: CheckpointFolder

  /// Returns the router's parameters: weight `[E, D]`, biases `[E]`.
  ///
  /// - Throws: ``CheckpointError`` where a tensor cannot be read.
  public func router() throws -> RouterWeights {
    try RouterWeights(
      weight: matrix(layout.router.weight, configuration.expertCount, configuration.hiddenSize),
      bias: layout.router.bias.map(floats), selectionBias: layout.router.selectionBias.map(floats))
  }

  /// Returns the parameters of expert `index`: gate and up `[F, D]`, down `[D, F]`. No other expert is read.
  ///
  /// - Throws: ``CheckpointError`` where the layer has no such expert or a tensor cannot be read.
  public func expert(_ index: Int) throws -> FeedForwardWeights {
    guard index >= 0 && index < configuration.expertCount else {
      throw CheckpointError(
        folder.path,
        "layer \(name) has no expert \(index), its experts are 0 to \(configuration.expertCount - 1)")
    }
    let inner = configuration.feedForwardSize
    switch layout.experts {
    case .separate(let names, let prefix):
      return try network("experts.\(prefix)\(index).", names, feedForwardSize: inner)
    case .stacked(let stacked): return try slice(stacked, index, feedForwardSize: inner)
    }
  }

  /// Returns the network beside the experts: gate and up `[F, D]`, down `[D, F]`.
  ///
  /// - Throws: ``CheckpointError`` where there is none or a tensor cannot be read.
  public func denseBranch() throws -> FeedForwardWeights {
    guard let dense = layout.dense, let branch = configuration.denseBranch else {
      throw CheckpointError(folder.path, "layer \(name) has no dense branch")
    }
    return try network(dense.prefix, dense.names, feedForwardSize: branch.feedForwardSize)
  }

  /// Returns the gate of the network beside the experts: weight `[1, D]`.
  ///
  /// - Throws: ``CheckpointError`` where there is none or a tensor cannot be read.
  public func denseBranchGate() throws -> BranchGateWeights {
    guard let gate = layout.dense?.gate, let branch = configuration.denseBranch else {
      throw CheckpointError(folder.path, "layer \(name) has no gate for a dense branch")
    }
    return BranchGateWeights(weight: try matrix(gate, branch.gateRows, configuration.hiddenSize))
  }

  // MARK: Reading

  private func network(
    _ prefix: String, _ names: ProjectionNames, feedForwardSize: Int
  ) throws(CheckpointError) -> FeedForwardWeights {
    let hidden = configuration.hiddenSize
    var gate: Matrix?
    if let name = names.gate { gate = try matrix(prefix + name, feedForwardSize, hidden) }
    return FeedForwardWeights(
      gate: gate, up: try matrix(prefix + names.up, feedForwardSize, hidden),
      down: try matrix(prefix + names.down, hidden, feedForwardSize))
  }

  private func slice(
    _ stacked: StackedLayout, _ index: Int, feedForwardSize: Int
  ) throws(CheckpointError) -> FeedForwardWeights {
    let hidden = configuration.hiddenSize
    let slice = Slice(index: index)
    func wide(_ part: Part) throws(CheckpointError) -> Matrix {
      try matrix(stacked.gateUp, stacked.storage, slice, feedForwardSize, hidden, stacked.arrangement, part)
    }
    func bias(_ name: String?, _ count: Int, _ arrangement: Arrangement, _ part: Part) throws(CheckpointError)
      -> [Float]?
    {
      guard let name else { return nil }
      return try matrix(name, .floats(.outputRows), slice, count, 1, arrangement, part).elements
    }
    return FeedForwardWeights(
      gate: try wide(.gate), up: try wide(.up),
      down: try matrix(stacked.down, stacked.storage, slice, hidden, feedForwardSize, .alone, .gate),
      gateBias: try bias(stacked.gateUpBias, feedForwardSize, stacked.arrangement, .gate),
      upBias: try bias(stacked.gateUpBias, feedForwardSize, stacked.arrangement, .up),
      downBias: try bias(stacked.downBias, hidden, .alone, .gate))
  }

  /// Returns a projection `[outputs, inputs]` from a tensor that may hold two projections of many experts.
  private func matrix(
    _ name: String, _ storage: Storage, _ slice: Slice, _ outputs: Int, _ inputs: Int,
    _ arrangement: Arrangement, _ part: Part
  ) throws(CheckpointError) -> Matrix {
    let name = "\(prefix).\(name)"
    switch storage {
    case .floats(let orientation):
      let view = slice.view(outputs: outputs, inputs: inputs, orientation, arrangement, part)
      return try folder.file(of: name).matrix(named: name, view)
    case .mxfp4:
      let blocks = inputs / MXFP4.blockSize
      let view = slice.view(outputs: outputs, inputs: blocks, .outputRows, arrangement, part)
      return try folder.matrix(blocks: "\(name)_blocks", scales: "\(name)_scales", view)
    }
  }

  private func matrix(_ name: String, _ rows: Int, _ columns: Int) throws(CheckpointError) -> Matrix {
    try matrix(name, .floats(.outputRows), Slice(), rows, columns, .alone, .gate)
  }

  private func floats(_ name: String) throws(CheckpointError) -> [Float] {
    let name = "\(prefix).\(name)"
    return try folder.file(of: name).floats(named: name)
  }
}
