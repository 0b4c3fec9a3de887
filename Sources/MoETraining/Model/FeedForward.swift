internal import MoE

/// A feed-forward block of the model: a Mixture-of-Experts layer, or a dense network as a layer of one expert.
final class FeedForward {
  let block: FeedForwardBlock
  let index: Int
  let layer: TrainedLayer
  /// The parameters of the layer that are trained.
  let parameters: [Parameter]

  /// - Parameters:
  ///   - index: the block's index in the model.
  ///   - workspace: the scratch that all blocks share.
  /// - Throws: `MoEError`, `CommunicationError`.
  init(
    _ block: FeedForwardBlock, hiddenSize: Int, index: Int, weights: InitialWeights, precision: Precision,
    ranks: Ranks?, workspace: LayerWorkspace, execution: Execution
  ) throws {
    self.block = block
    self.index = index
    let configuration = try block.layer(hiddenSize: hiddenSize, isTraining: true)
    layer = try TrainedLayer(
      configuration, evaluation: try block.layer(hiddenSize: hiddenSize, isTraining: false),
      weights: weights.layer(configuration, block, index: index), precision: precision,
      name: "layers.\(index)", index: index, over: block.isMoE ? ranks : nil, workspace: workspace,
      execution: execution)
    // The router of one expert cannot learn: the expert's weight is 1 whatever the logit is.
    parameters = layer.parameters.filter { block.isMoE || !$0.name.hasSuffix(".router") }
  }

  /// The values of one block that a pass keeps.
  final class State {
    let recording: LayerRecording
    /// The routing of a pass that was not recorded.
    var evaluation = RoutingRecord()

    init(_ extent: Recording.Extent) { recording = LayerRecording(extent) }
  }

  /// Returns the noise of the block's router in a step; nil where the block has none.
  ///
  /// - Parameter noise: the noise of the step, which is equal for all blocks.
  func noise(of noise: RouterNoise) -> RouterNoise? {
    guard block.inputJitter > 0 else { return nil }
    return RouterNoise(
      seed: noise.seed &+ UInt64(index) &* 0xD1B5_4A32_D192_ED03, firstToken: noise.firstToken)
  }

  /// Returns the tokens over which the losses of the block average: one sequence for DeepSeek-V3, the batch
  /// otherwise.
  func grouping(length: Int) -> TokenGrouping {
    block.routing == .deepSeekV3 ? .sequence(length: length) : .batch
  }

  /// Returns the load-balance loss of the routing's paper, and the z-loss.
  func losses(of statistics: RouterStatistics) throws(MoEError) -> (balance: RouterLoss, z: RouterLoss) {
    let coefficient = Double(block.balanceCoefficient)
    let balance: RouterLoss =
      switch block.routing {
      case .dense: RouterLoss(value: 0, gradients: RouterLossGradients())
      case .switchTransformer, .deepSpeedTop1: statistics.switchTransformer(coefficient: coefficient)
      case .gshardTop2: statistics.gshardTop2(coefficient: coefficient)
      case .mixtral: statistics.megatron(coefficient: coefficient)
      case .deepSeekV3: try statistics.deepSeekV3Sequence(coefficient: coefficient)
      }
    return (balance, statistics.zLoss(coefficient: Double(block.zCoefficient)))
  }
}
