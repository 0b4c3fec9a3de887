public import MoECore

extension MoELayer {
  /// Applies the layer and records what
  /// ``backward(_:input:recording:losses:into:gradients:workspace:execution:)`` needs.
  ///
  /// - Parameters:
  ///   - input: the activations.
  ///   - mask: one value a token, false for padding.
  ///   - noise: of the router in training; nil routes as at evaluation.
  ///   - recording: overwritten.
  ///   - output: activations of the input's shape, overwritten.
  ///   - workspace: scratch; nothing of the recording stays in it.
  ///   - execution: nil for ``Execution/automatic()``; the backward pass has to use the same instruction set.
  /// - Throws: as ``callAsFunction(_:mask:execution:)``.
  public func forward(
    _ input: Activations, mask: [Bool]? = nil, noise: RouterNoise? = nil, recording: inout Recording,
    into output: inout Activations, workspace: inout Workspace, execution: Execution? = nil
  ) throws(MoEError) {
    let execution = if let execution { execution } else { try Execution.automatic() }
    try validate(input, mask: mask, output: output)
    try noise?.validate()
    recording.pass = nil
    workspace.exchange(with: &recording)
    defer { workspace.exchange(with: &recording) }
    workspace.routing.noise = noise
    try run(
      input, mask: mask, records: recording.extent, into: &output, record: &recording.record,
      workspace: &workspace, execution: execution)
    recording.pass = recordedPass(input, execution)
  }

  package func recordedPass(_ input: Activations, _ execution: Execution) -> RecordedPass {
    RecordedPass(
      configuration: configuration, precision: experts.precision, instructionSet: execution.instructionSet,
      tokenCount: input.tokenCount)
  }

  /// Adds the gradients of a recorded pass to `gradients` and gives that of its input.
  ///
  /// The chosen experts, the dropped choices and the masked tokens are held fixed.
  ///
  /// - Parameters:
  ///   - outputGradient: dL/doutput in the shape of the output.
  ///   - input: what the recorded pass was applied to.
  ///   - recording: of that pass; it may be used once.
  ///   - losses: what the routers' losses contribute.
  ///   - inputGradient: activations of the input's shape, overwritten with dL/dinput.
  ///   - gradients: added to.
  ///   - workspace: scratch, the forward pass's or another.
  ///   - execution: as of the forward pass.
  /// - Throws: `MoEError.shapeMismatch`, and `MoEError.invalidConfiguration` for a recording without a pass of this
  ///   layer's configuration, precision and instruction set over so many tokens, or gradients of another
  ///   configuration.
  public func backward(
    _ outputGradient: Activations, input: Activations, recording: inout Recording,
    losses: RouterLossGradients = RouterLossGradients(), into inputGradient: inout Activations,
    gradients: MoEGradients, workspace: inout Workspace, execution: Execution? = nil
  ) throws(MoEError) {
    try backward(
      .all, outputGradient, input: input, recording: &recording, losses: losses, into: &inputGradient,
      gradients: gradients, workspace: &workspace, execution: execution)
  }

  /// The same, or a part of it: `.parameters` comes after `.input` of the same pass, with nothing else computed in the
  /// workspace between them.
  package func backward(
    _ part: BackwardPart, _ outputGradient: Activations, input: Activations, recording: inout Recording,
    losses: RouterLossGradients, into inputGradient: inout Activations, gradients: MoEGradients,
    workspace: inout Workspace, execution: Execution?
  ) throws(MoEError) {
    let execution = if let execution { execution } else { try Execution.automatic() }
    try validateBackward(
      outputGradient, input: input, pass: recording.pass, inputGradient: inputGradient,
      gradients: gradients, execution: execution)
    try losses.validate(tokenCount: input.tokenCount, expertCount: configuration.expertCount)
    if part != .input { recording.pass = nil }
    workspace.exchange(with: &recording)
    defer { workspace.exchange(with: &recording) }
    unsafe try input.tokens.withUnsafeBufferPointer { tokens throws(MoEError) in
      unsafe try outputGradient.tokens.withUnsafeBufferPointer { output throws(MoEError) in
        unsafe try inputGradient.tokens.withUnsafeMutableBufferPointer { result throws(MoEError) in
          if recording.extent == .recompute && part != .parameters {
            unsafe try recompute(
              tokens.baseAddress!, tokenCount: input.tokenCount, execution: execution, workspace: &workspace)
          }
          unsafe try backward(
            part, output.baseAddress!, tokens: tokens.baseAddress!, tokenCount: input.tokenCount,
            losses: losses, into: result.baseAddress!, gradients: gradients, execution: execution,
            workspace: &workspace)
        }
      }
    }
  }

  /// Checks what a caller of a backward pass passes against the pass that was recorded.
  package func validateBackward(
    _ outputGradient: Activations, input: Activations, pass: RecordedPass?, inputGradient: Activations,
    gradients: MoEGradients, execution: Execution
  ) throws(MoEError) {
    guard let pass, pass.tokenCount == input.tokenCount else {
      throw .invalidConfiguration("the recording holds no pass over \(input.tokenCount) tokens")
    }
    guard pass == recordedPass(input, execution) else {
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

  /// Whether the backward pass reads the rows that the experts made: gradients of weights and gates are products with
  /// what these multiplied.
  package var backwardReadsRows: Bool {
    configuration.routing.weightPlacement == .output || branchGate.map { $0.expertCount == 2 } ?? false
  }

  /// The activations of a pass of which the routing was kept.
  private func recompute(
    _ tokens: UnsafePointer<Float>, tokenCount: Int, execution: Execution, workspace: inout Workspace
  ) throws(MoEError) {
    let expertCount = configuration.expertCount
    let rowCount = unsafe Int(
      try workspace.routing.offsets.reserve(expertCount + 1, of: Int64.self)[expertCount])
    _ = unsafe try expertRows(
      tokens, rowCount: rowCount, isRecorded: true,
      needsRows: backwardReadsRows, execution: execution, workspace: &workspace)
    if branch != nil {
      _ = unsafe try branchRows(
        tokens, tokenCount: tokenCount, isRecorded: true, needsRows: branchGate != nil,
        execution: execution, workspace: &workspace)
    }
  }

  /// 1. Combine: gradients of the experts' weights, and of the gates of the dense branch.
  /// 2. Experts: gradients of the rows they took in, and of their parameters.
  /// 3. Dense branch: gradients of the rows it took in.
  /// 4. Gather: each token adds up the gradients of its rows, and of the dense branch.
  /// 5. Router and gate: what they add to the tokens.
  /// 6. Gradients of the parameters of router, gate and branch.
  private func backward(
    _ part: BackwardPart, _ output: UnsafePointer<Float>, tokens: UnsafePointer<Float>, tokenCount: Int,
    losses: RouterLossGradients, into inputGradient: UnsafeMutablePointer<Float>, gradients: MoEGradients,
    execution: Execution, workspace: inout Workspace
  ) throws(MoEError) {
    let offsets = unsafe UnsafePointer(
      try workspace.routing.offsets.reserve(experts.expertCount + 1, of: Int64.self))
    let rowCount = unsafe Int(offsets[experts.expertCount])
    if part == .parameters {
      unsafe try addExpertGradients(
        offsets: offsets, rowCount: rowCount, to: gradients, execution: execution, workspace: &workspace)
      return try addSharedGradients(
        tokenCount: tokenCount, to: gradients, execution: execution, workspace: &workspace)
    }
    let rowWeights = unsafe try combineBackward(
      output,
      forwardRows: workspace.experts.rows.reserve(rowCount * configuration.hiddenSize, of: Float.self),
      rowCount: rowCount, tokenCount: tokenCount, execution: execution, workspace: &workspace)
    let rows = unsafe try Kernels.networkBackward(
      experts, output: output, order: workspace.routing.rowToken.reserve(rowCount, of: Int32.self),
      rowWeights: rowWeights, offsets: offsets, rowCount: rowCount, execution: execution,
      forward: &workspace.experts, backward: &workspace.backward.experts, scratch: &workspace.kernel)
    if part == .all {
      unsafe try addExpertGradients(
        offsets: offsets, rowCount: rowCount, to: gradients, execution: execution, workspace: &workspace)
    }
    let branchRows = unsafe try branchBackward(
      output, tokenCount: tokenCount, execution: execution, workspace: &workspace)
    unsafe try gatherBackward(
      rows, tokens: tokens, branchRows: branchRows, tokenCount: tokenCount, into: inputGradient,
      execution: execution, workspace: &workspace)
    unsafe try routersBackward(
      tokens, tokenCount: tokenCount, losses: losses, into: inputGradient, execution: execution,
      workspace: &workspace)
    if part == .all {
      try addSharedGradients(
        tokenCount: tokenCount, to: gradients, execution: execution, workspace: &workspace)
    }
  }

  private func addExpertGradients(
    offsets: UnsafePointer<Int64>, rowCount: Int, to gradients: MoEGradients, execution: Execution,
    workspace: inout Workspace
  ) throws(MoEError) {
    unsafe try Kernels.networkGradients(
      experts, offsets: offsets, rowCount: rowCount, gradients: gradients.experts, execution: execution,
      forward: &workspace.experts, backward: &workspace.backward.experts, scratch: &workspace.kernel)
  }
}
