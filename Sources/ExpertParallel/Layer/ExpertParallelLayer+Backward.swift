public import MoE
public import MoECore

extension ExpertParallelLayer {
  /// Zeros for the gradients of the parameters that this rank holds.
  ///
  /// - Throws: `MoEError.outOfMemory`.
  public func makeGradients() throws(MoEError) -> MoEGradients { try MoEGradients(for: part) }

  /// Gradients in the shapes of the parameters; the experts are ``localExperts``.
  ///
  /// - Precondition: the gradients are of ``makeGradients()`` of this layer.
  public func weights(of gradients: MoEGradients) -> MoEWeights { gradients.weights(of: part) }

  /// Adds the gradients of a recorded pass to `gradients` and gives that of this rank's input.
  ///
  /// Every rank then has the same sums for router, dense branch and gate, those of the whole batch, and for its experts
  /// those of all tokens that they computed. Before the call they have to be the same on all ranks that hold a
  /// parameter, as they are after zeros and earlier calls.
  ///
  /// - Parameters:
  ///   - outputGradient: dL/doutput in the shape of this rank's output.
  ///   - input: what the recorded pass was applied to.
  ///   - recording: of that pass; it may be used once.
  ///   - losses: of the whole batch, as taken of ``statistics(of:by:workspace:execution:)``.
  ///   - inputGradient: activations of the input's shape, overwritten with dL/dinput.
  ///   - gradients: added to.
  ///   - workspace: scratch.
  ///   - execution: as of the forward pass.
  /// - Throws: as ``MoELayer``'s, and `CommunicationError`.
  public func backward(
    _ outputGradient: Activations, input: Activations, recording: inout ExpertParallelRecording,
    losses: RouterLossGradients = RouterLossGradients(), into inputGradient: inout Activations,
    gradients: MoEGradients, workspace: inout ExpertParallelWorkspace, execution: Execution? = nil
  ) throws {
    let execution = try execution ?? .automatic()
    try part.validateBackward(
      outputGradient, input: input, pass: recording.local.pass, inputGradient: inputGradient,
      gradients: gradients, execution: execution)
    let first = recording.kept.firstTokens[communicator.rank]
    let losses = try losses.ofTokens(first..<first + input.tokenCount)
    try losses.validate(tokenCount: input.tokenCount, expertCount: configuration.expertCount)
    recording.local.pass = nil
    let extent = recording.local.extent
    workspace.exchange(with: &recording)
    defer { workspace.exchange(with: &recording) }
    try unsafe input.tokens.withUnsafeBufferPointer { tokens in
      try unsafe outputGradient.tokens.withUnsafeBufferPointer { output in
        try unsafe inputGradient.tokens.withUnsafeMutableBufferPointer { result in
          if extent == .recompute {
            unsafe try recompute(
              tokens.baseAddress!, tokenCount: input.tokenCount, execution: execution, workspace: &workspace)
          }
          unsafe try backward(
            output.baseAddress!, tokens: tokens.baseAddress!, tokenCount: input.tokenCount,
            losses: losses, into: result.baseAddress!, gradients: gradients, execution: execution,
            workspace: &workspace)
        }
      }
    }
  }

  /// The activations of a pass of which the routing was kept: the tokens travel again.
  private func recompute(
    _ tokens: UnsafePointer<Float>, tokenCount: Int, execution: Execution,
    workspace: inout ExpertParallelWorkspace
  ) throws {
    _ = unsafe try expertRows(
      tokens, isRecorded: true, needsRows: part.backwardReadsRows, step: "the backward pass",
      execution: execution, workspace: &workspace
    ) { workspace in
      guard part.branch != nil else { return }
      _ = unsafe try part.branchRows(
        tokens, tokenCount: tokenCount, isRecorded: true, needsRows: part.branchGate != nil,
        execution: execution, workspace: &workspace.local)
    }
  }

  /// 1. Combine: gradients of the experts' weights, and of the gates of the dense branch.
  /// 2. Exchange gradients of the output: each token's goes to the ranks that the token went to, and with it what each
  ///    row was multiplied by. Beside it, the dense branch: gradients of the rows it took in.
  /// 3. Experts: gradients of the rows they took in.
  /// 4. Exchange rows: the gradient of a row goes back to the rank of its token. Beside it, gradients of the experts'
  ///    parameters, row after row in the order of the whole batch, replica after replica.
  /// 5. Gather: each token adds up the gradients of its rows, and of the dense branch.
  /// 6. Router and gate: what they add to the tokens.
  /// 7. Gradients of the parameters of router, gate and branch, token after token, rank after rank.
  private func backward(
    _ output: UnsafePointer<Float>, tokens: UnsafePointer<Float>, tokenCount: Int,
    losses: RouterLossGradients, into inputGradient: UnsafeMutablePointer<Float>, gradients: MoEGradients,
    execution: Execution, workspace: inout ExpertParallelWorkspace
  ) throws {
    let step = "the backward pass"
    let dispatch = workspace.kept.dispatch!
    let buffers = workspace.tripBuffers(dispatch, width: configuration.hiddenSize, payload: exchange.payload)
    workspace.reserve(slices: dispatch.slices.count)
    let rowWeights = unsafe try part.combineBackward(
      output, forwardRows: buffers.returnedRows.floats, rowCount: dispatch.returnedRowCount,
      tokenCount: tokenCount, execution: execution, workspace: &workspace.local)
    let owned = unsafe try dispatch.sendRowWeights(rowWeights, communicator: communicator, step: step)

    var branchRows: UnsafePointer<Float>?
    let returned = unsafe try dispatch.trip(
      output, buffers: buffers, communicator: communicator, step: step, execution: execution,
      before: {
        unsafe branchRows = try part.branchBackward(
          output, tokenCount: tokenCount, execution: execution, workspace: &workspace.local)
      },
      compute: { index, received in
        let slice = dispatch.slices[index]
        return unsafe UnsafePointer(
          try Kernels.networkBackward(
            part.experts, output: received, order: slice.order, rowWeights: owned[index],
            offsets: slice.offsets, rowCount: slice.rowCount, execution: execution,
            forward: &workspace.tiles[index], backward: &workspace.backwardTiles[index],
            scratch: &workspace.local.kernel))
      },
      after: {
        try addExpertGradients(to: gradients, execution: execution, step: step, workspace: &workspace)
      })
    unsafe try part.gatherBackward(
      returned!, tokens: tokens, branchRows: branchRows, tokenCount: tokenCount, into: inputGradient,
      execution: execution, workspace: &workspace.local)
    unsafe try part.routersBackward(
      tokens, tokenCount: tokenCount, losses: losses, into: inputGradient, execution: execution,
      workspace: &workspace.local)
    try addSharedGradients(
      tokenCount: tokenCount, to: gradients, execution: execution, step: step, workspace: &workspace)
  }
}
