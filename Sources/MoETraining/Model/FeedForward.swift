internal import MoE

/// A feed-forward block of the model: a Mixture-of-Experts layer, or a dense network as a layer of one expert.
final class FeedForward {
  let block: FeedForwardBlock
  let layer: MoELayer
  /// The same parameters under the capacity of evaluation.
  let evaluationLayer: MoELayer
  let gradients: MoEGradients
  let parameters: [Parameter]
  let index: Int

  init(
    _ block: FeedForwardBlock, hiddenSize: Int, index: Int, weights: InitialWeights, execution: Execution
  ) throws(MoEError) {
    self.block = block
    self.index = index
    let configuration = try block.layer(hiddenSize: hiddenSize, isTraining: true)
    let source = weights.layer(
      configuration, isRouted: block.isMoE, hasSelectionBias: block.routing == .deepSeekV3, index: index)
    do {
      layer = try MoELayer(configuration, weights: source, execution: execution)
    } catch let error as MoEError {
      throw error
    } catch {
      throw .invalidConfiguration("layer \(index): \(error)")
    }
    evaluationLayer = layer.with(try block.layer(hiddenSize: hiddenSize, isTraining: false))
    gradients = try MoEGradients(for: layer)
    // The router of one expert has nothing to learn: its weight is 1 whatever its logit.
    parameters = try layer.parameters(prefix: "layers.\(index)", gradients: gradients).filter {
      block.isMoE || !$0.name.hasSuffix(".router")
    }
  }

  /// What a pass keeps of one block.
  @safe final class State {
    var recording: Recording
    /// Of a pass that was not recorded.
    var evaluation = RoutingRecord()

    init(_ extent: Recording.Extent) { recording = Recording(extent) }
  }

  /// A recorded pass.
  func forward(
    _ input: Rows, state: State, into output: Rows, workspace: inout Workspace, execution: Execution
  ) throws(MoEError) {
    do throws(MoEError) {
      try layer.forward(
        input.activations, recording: &state.recording, into: &output.activations, workspace: &workspace,
        execution: execution)
    } catch {
      throw named(error)
    }
  }

  /// A pass with the capacity of evaluation, which leaves its routing in the state.
  func evaluate(
    _ input: Rows, state: State, into output: Rows, workspace: inout Workspace, execution: Execution
  ) throws(MoEError) {
    do throws(MoEError) {
      try evaluationLayer.forward(
        input.activations, into: &output.activations, record: &state.evaluation, workspace: &workspace,
        execution: execution)
    } catch {
      throw named(error)
    }
  }

  /// The losses of a batch that was routed as `record` says.
  func loss(of record: RoutingRecord) -> RouterLoss {
    record.loadBalance(coefficient: block.balanceCoefficient) + record.zLoss(coefficient: block.zCoefficient)
  }

  func backward(
    _ outputGradient: Rows, input: Rows, state: State, losses: RouterLossGradients, into inputGradient: Rows,
    workspace: inout Workspace, execution: Execution
  ) throws(MoEError) {
    try layer.backward(
      outputGradient.activations, input: input.activations, recording: &state.recording, losses: losses,
      into: &inputGradient.activations, gradients: gradients, workspace: &workspace,
      execution: execution)
  }

  /// The error as one of this layer.
  private func named(_ error: MoEError) -> MoEError {
    guard case .notFinite(let what, let token) = error else { return error }
    return .diverged("\(what) of token \(token) in layer \(index) is NaN or infinite")
  }
}
