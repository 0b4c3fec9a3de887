public import MoECore

extension MoELayer {
  /// Adds the gradients of a recorded pass's parameters to `gradients`, and writes the gradient of its input to
  /// `inputGradient`.
  ///
  /// The chosen experts, the dropped choices and the masked tokens are held fixed.
  ///
  /// - Parameters:
  ///   - outputGradient: dL/doutput in the shape of the output.
  ///   - input: the input of the recorded pass.
  ///   - recording: the recording of that pass; it may be used once.
  ///   - losses: the contribution of the router losses.
  ///   - inputGradient: activations of the input's shape, overwritten with dL/dinput.
  ///   - gradients: the sums that the gradients are added to.
  ///   - workspace: scratch; it need not be the workspace of the forward pass.
  ///   - execution: the execution of the forward pass.
  /// - Throws: `MoEError.shapeMismatch`, and `MoEError.invalidConfiguration` for a recording whose pass differs in the
  ///   layer's configuration, precision, instruction set or number of tokens, for a recording without a pass, and for
  ///   gradients of another configuration.
  public func backward(
    _ outputGradient: Activations, input: Activations, recording: inout Recording,
    losses: RouterLossGradients = RouterLossGradients(), into inputGradient: inout Activations,
    gradients: MoEGradients, workspace: inout Workspace, execution: Execution? = nil
  ) throws(MoEError) {
    try backward(
      .all, outputGradient, input: input, recording: &recording, losses: losses, into: &inputGradient,
      gradients: gradients, workspace: &workspace, execution: execution)
  }

  /// Computes a backward pass, or a part of it.
  ///
  /// A call for `.parameters` follows one for `.input` of the same pass. No other pass may use the workspace between
  /// them, because the values of the first call stay in its memory.
  package func backward(
    _ part: BackwardPart, _ outputGradient: Activations, input: Activations, recording: inout Recording,
    losses: RouterLossGradients, into inputGradient: inout Activations, gradients: MoEGradients,
    workspace: inout Workspace, execution: Execution?
  ) throws(MoEError) {
    let execution = if let execution { execution } else { try Execution.automatic() }
    let pass = recording.pass
    try validateBackward(
      outputGradient, input: input, pass: pass?.identity, inputGradient: inputGradient,
      gradients: gradients, execution: execution)
    try losses.validate(tokenCount: input.tokenCount, expertCount: configuration.expertCount)
    if part != .input { recording.pass = nil }
    workspace.exchange(with: &recording)
    defer { workspace.exchange(with: &recording) }
    if part != .parameters, let pass {
      recording.backward = try run(
        MemoryView(outputGradient.tokens), of: pass, tokens: MemoryView(input.tokens), losses: losses,
        into: MemoryView(writing: &inputGradient.tokens), execution: execution, workspace: &workspace)
    }
    if part == .input { return }
    guard let backward = recording.backward else {
      throw .invalidConfiguration("the gradient of the input was not computed before those of the parameters")
    }
    recording.backward = nil
    try experts.addGradients(
      of: backward.experts, to: gradients.experts, execution: execution, scratch: &workspace.call)
    try addSharedGradients(backward.shared, to: gradients, execution: execution, workspace: &workspace)
  }

  /// Computes the gradient of the input from checked arguments: through combine, experts, dense branch and gather, and
  /// then the contributions of the router and the gate.
  private func run(
    _ output: MemoryView<Float>, of pass: RecordedPass, tokens: MemoryView<Float>,
    losses: RouterLossGradients, into inputGradient: MemoryView<Float>, execution: Execution,
    workspace: inout Workspace
  ) throws(MoEError) -> BackwardPass {
    let (routes, choices, gates) = (pass.routes, pass.order.choices, pass.gates)
    let activations =
      if let kept = pass.activations {
        kept
      } else {
        try recompute(tokens, of: pass, execution: execution, workspace: &workspace)
      }

    let combined = try combineBackward(
      output, rows: activations.experts.rows, choices, routes, branch: activations.branch, gates: gates,
      execution: execution, workspace: &workspace)
    let experts = try experts.backward(
      output, rowWeights: combined.rowWeights, forward: activations.experts, execution: execution,
      tiles: &workspace.backward.experts, scratch: &workspace.call)
    let branch = try branchBackward(
      output, forward: activations.branch, gates: gates, execution: execution, workspace: &workspace)
    let weightGradients =
      if let made = combined.weightGradients {
        made
      } else {
        try inputWeightGradients(
          tokens, rows: experts.rows, choices, routes, execution: execution, workspace: &workspace)
      }
    gatherBackward(
      experts.rows, choices, routes, branch: branch, into: inputGradient, execution: execution)
    let routers = try routersBackward(
      tokens, routes, choices, gates, weightGradients: weightGradients, gateGradients: combined.gateGradients,
      losses: losses, into: inputGradient, execution: execution, workspace: &workspace)
    return BackwardPass(experts: experts, shared: SharedGradientTiles(routers: routers, branch: branch))
  }

  /// Recomputes the activations of a pass from its recorded routing.
  private func recompute(
    _ tokens: MemoryView<Float>, of pass: RecordedPass, execution: Execution, workspace: inout Workspace
  ) throws(MoEError) -> LayerTiles {
    LayerTiles(
      experts: try applyExperts(
        tokens, pass.order, isRecorded: true, needsRows: backwardReadsRows, execution: execution,
        workspace: &workspace),
      branch: try applyBranch(
        tokens, isRecorded: true, needsRows: branchGate != nil, execution: execution, workspace: &workspace))
  }
}

extension MoELayer {
  /// The properties that a backward pass shares with its forward pass.
  package func identity(of input: Activations, _ execution: Execution) -> PassIdentity {
    PassIdentity(
      configuration: configuration, precision: experts.precision, instructionSet: execution.instructionSet,
      tokenCount: input.tokenCount)
  }

  /// Checks the arguments of a backward pass against the pass that was recorded.
  package func validateBackward(
    _ outputGradient: Activations, input: Activations, pass: PassIdentity?, inputGradient: Activations,
    gradients: MoEGradients, execution: Execution
  ) throws(MoEError) {
    guard let pass, pass.tokenCount == input.tokenCount else {
      throw .invalidConfiguration("the recording holds no pass over \(input.tokenCount) tokens")
    }
    guard pass == identity(of: input, execution) else {
      throw .invalidConfiguration(
        "the recording is of a layer in \(pass.precision) on \(pass.instructionSet), the backward pass of one in "
          + "\(experts.precision) on \(execution.instructionSet); layer and instruction set have to be the same"
      )
    }
    guard gradients.configuration == configuration, gradients.experts.expertCount == experts.expertCount
    else {
      throw .invalidConfiguration("the gradients are of a layer of another configuration or of other experts")
    }
    try validate(input, mask: nil, output: inputGradient)
    try check(outputGradient.shape, input.shape, "the output gradient")
  }

  /// Whether the backward pass reads the experts' output rows. The gradient of a weight or gate is a product with the
  /// rows that it multiplied.
  package var backwardReadsRows: Bool { !weighsInput || branchGate.map { $0.expertCount == 2 } ?? false }
}
