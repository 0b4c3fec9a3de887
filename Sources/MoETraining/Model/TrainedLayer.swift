internal import ExpertParallel
public import MoE
internal import MoECore

/// A Mixture-of-Experts layer that is trained: its parameters in fp32, the sums of their gradients, and the passes that
/// compute from them.
///
/// A training step is ``forward(_:mask:noise:recording:into:)``, losses, ``backward(_:input:recording:losses:into:)``
/// and a step of an optimizer, such as ``LayerOptimizer``:
///
/// ```swift
/// let layer = try TrainedLayer(configuration, weights: start, precision: .bfloat16)
/// let optimizer = try OptimizerConfiguration(.adamw).optimizer(of: layer)
/// let recording = LayerRecording()
/// try layer.forward(input, recording: recording, into: &output)
/// let balance = try layer.statistics(of: recording).switchTransformer(coefficient: 0.01)
/// try layer.backward(
///   outputGradient, input: input, recording: recording, losses: balance.gradients, into: &inputGradient)
/// try optimizer.step(learningRate: 1e-3)
/// ```
///
/// Weights and biases of router, experts, dense branch and its gate are trained. A bias exists where the initial
/// weights have one. The memory of the parameters belongs to this layer alone, so no training changes a `MoELayer`.
/// One task at a time may use a trained layer.
public final class TrainedLayer {
  /// The configuration of the layer in training.
  public let configuration: MoEConfiguration
  /// The precision of the networks' products. The parameters and their gradients are always in fp32.
  public let precision: Precision
  /// All parameters that an optimizer changes, with the names of a checkpoint. Of the experts, these are the ones
  /// that this rank holds.
  public let parameters: [Parameter]
  /// The ranks over which experts and tokens are spread; nil for this process alone.
  public let ranks: Ranks?
  /// The parameters in fp32.
  private let master: any TrainableLayer
  /// The layer that the passes use: the master, or its copy in bfloat16.
  private let layer: any TrainableLayer
  /// A layer with these parameters under the configuration of evaluation.
  private let evaluationLayer: any TrainableLayer
  private let gradients: MoEGradients
  private let workspace: LayerWorkspace
  let execution: Execution

  /// Packs the initial parameters.
  ///
  /// - Parameters:
  ///   - configuration: what the layer computes; D and each F are multiples of 32.
  ///   - evaluation: the configuration of ``evaluate(_:mask:into:record:)``, with another capacity or other drops;
  ///     nil for `configuration`.
  ///   - source: the initial parameters, such as `MoEWeights`. Biases that it has are trained.
  ///   - precision: the precision of the networks' products.
  ///   - name: a prefix of the parameters' names, followed by a dot, where several layers are in one checkpoint.
  ///   - ranks: the ranks over which the experts are spread, each with its own part of the tokens; nil for this
  ///     process alone. With ranks the layer's passes and its optimizer's steps are collectives.
  ///   - execution: the instruction set and threads of the passes and of the optimizer; nil for
  ///     `Execution.automatic()`.
  /// - Throws: what `source` throws; `MoEError.unsupported` for a size that is not a multiple of 32;
  ///   `MoEError.invalidConfiguration` for an `evaluation` of other sizes; `CommunicationError`.
  public convenience init(
    _ configuration: MoEConfiguration, evaluation: MoEConfiguration? = nil,
    weights source: some MoEWeightSource, precision: Precision = .float32, name: String = "",
    over ranks: Ranks? = nil, execution: Execution? = nil
  ) throws {
    try self.init(
      configuration, evaluation: evaluation, weights: source, precision: precision, name: name, index: 0,
      over: ranks, workspace: LayerWorkspace(), execution: try execution ?? .automatic())
  }

  /// - Parameters:
  ///   - index: the index of the layer, for its placement over ranks.
  ///   - workspace: the scratch that layers share if they compute one after another.
  init(
    _ configuration: MoEConfiguration, evaluation: MoEConfiguration?, weights source: some MoEWeightSource,
    precision: Precision, name: String, index: Int, over ranks: Ranks?, workspace: LayerWorkspace,
    execution: Execution
  ) throws {
    let evaluation = evaluation ?? configuration
    try Self.check(evaluation, against: configuration)
    self.configuration = configuration
    self.precision = precision
    self.ranks = ranks
    self.workspace = workspace
    self.execution = execution
    if let ranks {
      master = try ExpertParallelLayer(
        configuration, weights: source, over: ranks.communicator,
        placement: ranks.placement(layer: index, expertCount: configuration.expertCount),
        gradientSum: ranks.gradientSum, exchange: ranks.exchange, execution: execution)
    } else {
      master = try MoELayer(configuration, weights: source, execution: execution)
    }
    layer = precision == .float32 ? master : try master.narrowed(execution: execution)
    evaluationLayer = try layer.with(evaluation)
    gradients = try MoEGradients(for: master.localLayer)
    parameters = try master.parameters(prefix: name, gradients: gradients)
  }

  private static func check(
    _ evaluation: MoEConfiguration, against training: MoEConfiguration
  ) throws(MoEError) {
    guard evaluation.hiddenSize == training.hiddenSize,
      evaluation.feedForwardSize == training.feedForwardSize,
      evaluation.expertCount == training.expertCount,
      evaluation.expertsPerToken == training.expertsPerToken,
      evaluation.activation == training.activation, evaluation.denseBranch == training.denseBranch,
      evaluation.routing.scoring == training.routing.scoring
    else {
      throw .invalidConfiguration(
        "the configuration of evaluation has other sizes, scores or activations than that of training, "
          + "expected another capacity alone")
    }
  }

  /// Whether the experts are spread over ranks. A spread layer adds up its gradients over the ranks itself.
  var isSpread: Bool { master.isSpread }

  /// A copy of the parameters in their shapes, from which a `MoELayer` or a checkpoint can be made. Over ranks, the
  /// experts are those that this rank holds.
  public var weights: MoEWeights { master.localLayer.weights }

  /// The bias of the router's selection, `[E]`, which no gradient changes; nil where the router has none.
  public package(set) var selectionBias: [Float]? {
    get { master.localLayer.selectionBias }
    set { master.localLayer.selectionBias = newValue }
  }

  /// Moves the bias of the router's selection towards an equal load: b + rate·sign(mean count − count), once per
  /// batch (DeepSeek-V3, §2.1.2). A layer without such a bias is not changed.
  ///
  /// - Parameters:
  ///   - statistics: the statistics of the batch, from ``statistics(of:by:)``.
  ///   - rate: γ.
  public func balanceSelection(by statistics: RouterStatistics, rate: Float = 0.001) {
    guard let bias = selectionBias else { return }
    selectionBias = statistics.updatedSelectionBias(bias, rate: rate)
  }

  /// Applies the layer and records what ``backward(_:input:recording:losses:into:)`` needs.
  ///
  /// - Parameters:
  ///   - input: activations `[…, D]`; over ranks those of this rank's tokens.
  ///   - mask: one value per token, false for padding; nil where no token is padding.
  ///   - noise: the noise of the router; nil for none.
  ///   - recording: overwritten with the record of this pass.
  ///   - output: activations of the input's shape, overwritten.
  /// - Throws: `MoEError.shapeMismatch`, `MoEError.notFinite` for a token that cannot be routed, `CommunicationError`.
  public func forward(
    _ input: Activations, mask: [Bool]? = nil, noise: RouterNoise? = nil, recording: LayerRecording,
    into output: inout Activations
  ) throws {
    try layer.forward(
      input, mask: mask, noise: noise, recording: &recording.content, into: &output,
      workspace: &workspace.content, execution: execution)
  }

  /// Applies the layer under the configuration of evaluation; nothing is recorded.
  ///
  /// - Parameters:
  ///   - input: activations `[…, D]`.
  ///   - mask: one value per token, false for padding; nil where no token is padding.
  ///   - output: activations of the input's shape, overwritten.
  ///   - record: overwritten with what happened to the tokens.
  /// - Throws: the errors of ``forward(_:mask:noise:recording:into:)``.
  public func evaluate(
    _ input: Activations, mask: [Bool]? = nil, into output: inout Activations, record: inout RoutingRecord
  ) throws {
    try evaluationLayer.evaluate(
      input, mask: mask, record: &record, into: &output, workspace: &workspace.content, execution: execution)
  }

  /// Returns the sums from which the routers' losses of a recorded pass are computed; over ranks the sums of all
  /// ranks.
  ///
  /// - Parameters:
  ///   - recording: the record of a pass whose gradients have not been computed yet.
  ///   - grouping: the tokens over which a loss averages.
  /// - Throws: `MoEError.invalidConfiguration` for a recording without a pass, `CommunicationError`.
  public func statistics(
    of recording: LayerRecording, by grouping: TokenGrouping = .batch
  ) throws -> RouterStatistics {
    try layer.statistics(
      of: &recording.content, by: grouping, workspace: &workspace.content, execution: execution)
  }

  /// Computes the gradients of a recorded pass: adds those of the parameters to their sums, and writes that of the
  /// input.
  ///
  /// - Parameters:
  ///   - outputGradient: dL/doutput, in the shape of the output.
  ///   - input: the activations of the recorded pass.
  ///   - recording: the record of that pass; it may be used once.
  ///   - losses: the gradients of the routers' losses; over ranks those of the whole batch.
  ///   - inputGradient: activations of the input's shape, overwritten with dL/dinput.
  /// - Throws: `MoEError.shapeMismatch`, `MoEError.invalidConfiguration` for a recording without a pass over this
  ///   input, `CommunicationError`.
  public func backward(
    _ outputGradient: Activations, input: Activations, recording: LayerRecording,
    losses: RouterLossGradients = RouterLossGradients(), into inputGradient: inout Activations
  ) throws {
    try backward(
      .all, outputGradient, input: input, recording: recording, losses: losses, into: &inputGradient)
  }

  /// Computes the gradients of a recorded pass, or a part of them: see `TrainableLayer`.
  func backward(
    _ part: BackwardPart, _ outputGradient: Activations, input: Activations, recording: LayerRecording,
    losses: RouterLossGradients, into inputGradient: inout Activations
  ) throws {
    try layer.backward(
      part, outputGradient, input: input, recording: &recording.content, losses: losses,
      into: &inputGradient, gradients: gradients, workspace: &workspace.content, execution: execution)
  }

  /// Makes the copy in bfloat16 again from the parameters. ``LayerOptimizer`` calls this after a step. After any
  /// other change of ``parameters``, call it before the next pass.
  public func parametersChanged() {
    if precision != .float32 { master.localLayer.narrow(into: layer.localLayer, execution: execution) }
  }

  /// Sets the gradients of all parameters to zero.
  public func resetGradients() {
    Parallel.forEach(parameters.count, execution) { parameters[$0].resetGradient() }
  }
}

/// The record of a pass of a ``TrainedLayer``, for its backward pass. Its storage is reused from pass to pass.
///
/// A recording belongs to one pass at a time. Any number of recordings, for several layers or micro-batches, can wait
/// for their backward passes.
@safe public final class LayerRecording {
  var content: ExpertParallelRecording

  /// Makes an empty recording.
  ///
  /// - Parameter extent: whether the activations are kept, or only the routing. Without activations the backward pass
  ///   computes them again, to equal bits.
  public init(_ extent: Recording.Extent = .full) { content = ExpertParallelRecording(extent) }

  /// The routing of the recorded pass; over ranks, of this rank's tokens.
  public var record: RoutingRecord { content.record }
}

/// Scratch that layers share if they compute one after another.
@safe final class LayerWorkspace {
  var content = ExpertParallelWorkspace()
}
