internal import ExpertParallel
internal import MoE

/// A feed-forward block of the model: a Mixture-of-Experts layer, or a dense network as a layer of one expert.
final class FeedForward {
  let block: FeedForwardBlock
  /// The parameters, in fp32.
  private let master: BlockLayer
  /// What computes: the master, or its copy in bfloat16.
  private let layer: BlockLayer
  /// The same parameters under the capacity of evaluation.
  private let evaluationLayer: BlockLayer
  private let gradients: MoEGradients
  /// Those that this rank holds.
  let parameters: [Parameter]
  let index: Int

  init(
    _ block: FeedForwardBlock, hiddenSize: Int, index: Int, weights: InitialWeights, precision: Precision,
    ranks: Ranks?, execution: Execution
  ) throws {
    self.block = block
    self.index = index
    let configuration = try block.layer(hiddenSize: hiddenSize, isTraining: true)
    let source = weights.layer(
      configuration, isRouted: block.isMoE, hasSelectionBias: block.routing == .deepSeekV3, index: index)
    do {
      master =
        if let ranks, block.isMoE {
          .spread(
            try ExpertParallelLayer(
              configuration, weights: source, over: ranks.communicator,
              placement: ranks.placement(expertCount: configuration.expertCount),
              gradientSum: ranks.gradientSum, exchange: ranks.exchange, execution: execution))
        } else {
          .whole(try MoELayer(configuration, weights: source, execution: execution))
        }
    } catch let error as MoEError {
      throw error
    } catch let error as CommunicationError {
      throw error
    } catch {
      throw MoEError.invalidConfiguration("layer \(index): \(error)")
    }
    layer = precision == .float32 ? master : try master.narrowed(execution: execution)
    evaluationLayer = try layer.with(block.layer(hiddenSize: hiddenSize, isTraining: false))
    gradients = try MoEGradients(for: master.held)
    // The router of one expert has nothing to learn: its weight is 1 whatever its logit.
    parameters = try master.parameters(prefix: "layers.\(index)", gradients: gradients).filter {
      block.isMoE || !$0.name.hasSuffix(".router")
    }
  }

  /// Whether the experts are spread over ranks.
  var isSpread: Bool { layer.isSpread }

  /// The bias of the router's selection; nil where there is none.
  var selectionBias: [Float]? {
    get { layer.held.selectionBias }
    set { layer.held.selectionBias = newValue }
  }

  /// Brings the copy in bfloat16 up to the parameters.
  func parametersChanged(execution: Execution) {
    if layer.held.experts.precision != .float32 {
      master.held.narrow(into: layer.held, execution: execution)
    }
  }

  /// What a pass keeps of one block.
  @safe final class State {
    var recording: ExpertParallelRecording
    /// Of a pass that was not recorded.
    var evaluation = RoutingRecord()

    init(_ extent: Recording.Extent) { recording = ExpertParallelRecording(extent) }
  }

  /// A recorded pass; the noise is that of the step.
  func forward(
    _ input: Rows, noise: RouterNoise, state: State, into output: Rows,
    workspace: inout ExpertParallelWorkspace, execution: Execution
  ) throws {
    var own = noise
    own.seed = noise.seed &+ UInt64(index) &* 0xD1B5_4A32_D192_ED03
    own.inputJitter = block.inputJitter
    try layer.forward(
      input, noise: block.inputJitter > 0 ? own : nil, recording: &state.recording, into: output,
      workspace: &workspace, execution: execution)
  }

  /// A pass with the capacity of evaluation, which leaves its routing in the state.
  func evaluate(
    _ input: Rows, state: State, into output: Rows, workspace: inout ExpertParallelWorkspace,
    execution: Execution
  ) throws {
    try evaluationLayer.forward(
      input, record: &state.evaluation, into: output, workspace: &workspace, execution: execution)
  }

  /// The tokens that the losses of the block average over: DeepSeek-V3's, those of a sequence.
  func grouping(length: Int) -> TokenGrouping {
    block.routing == .deepSeekV3 ? .sequence(length: length) : .batch
  }

  /// The sums that the losses of a recorded pass are made of.
  func statistics(
    of state: State, length: Int, workspace: inout ExpertParallelWorkspace, execution: Execution
  ) throws -> RouterStatistics {
    try layer.statistics(
      of: &state.recording, by: grouping(length: length), workspace: &workspace, execution: execution)
  }

  /// The load-balance loss of the paper and the z-loss.
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

  func backward(
    _ part: BackwardPart, _ outputGradient: Rows, input: Rows, state: State, losses: RouterLossGradients,
    into inputGradient: Rows, workspace: inout ExpertParallelWorkspace, execution: Execution
  ) throws {
    try layer.backward(
      part, outputGradient, input: input, recording: &state.recording, losses: losses, into: inputGradient,
      gradients: gradients, workspace: &workspace, execution: execution)
  }
}
