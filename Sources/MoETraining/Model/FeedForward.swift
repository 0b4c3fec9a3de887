internal import MoE

/// A feed-forward block of the model: a Mixture-of-Experts layer, or a dense network as a layer of one expert.
final class FeedForward {
  let block: FeedForwardBlock
  let index: Int
  let layer: TrainedLayer
  /// Those of the layer that have something to learn.
  let parameters: [Parameter]

  /// - Parameters:
  ///   - index: of the block in the model.
  ///   - workspace: scratch that all blocks share.
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
    // The router of one expert has nothing to learn: its weight is 1 whatever its logit.
    parameters = layer.parameters.filter { block.isMoE || !$0.name.hasSuffix(".router") }
  }

  /// What a pass keeps of one block.
  final class State {
    let recording: LayerRecording
    /// Of a pass that was not recorded.
    var evaluation = RoutingRecord()

    init(_ extent: Recording.Extent) { recording = LayerRecording(extent) }
  }

  /// The noise of the block's router in a step; nil where the block has none.
  ///
  /// - Parameter noise: of the step, the same for all blocks.
  func noise(of noise: RouterNoise) -> RouterNoise? {
    guard block.inputJitter > 0 else { return nil }
    var own = noise
    own.seed = noise.seed &+ UInt64(index) &* 0xD1B5_4A32_D192_ED03
    own.inputJitter = block.inputJitter
    return own
  }

  /// The tokens that the losses of the block average over: DeepSeek-V3's, those of a sequence.
  func grouping(length: Int) -> TokenGrouping {
    block.routing == .deepSeekV3 ? .sequence(length: length) : .batch
  }

  /// Returns the load-balance loss of the paper and the z-loss.
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
