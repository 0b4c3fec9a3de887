public import MoE
public import MoECore

extension ExpertParallelLayer {
  /// Zeros for the gradients of the parameters that this rank holds.
  ///
  /// - Throws: `MoEError.outOfMemory`.
  public func makeGradients() throws(MoEError) -> MoEGradients { try MoEGradients(for: part) }

  /// Gradients in the shapes of the parameters; the experts are ``localExperts``, with tensor parallelism their part of F
  /// on this rank.
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
  ///   - losses: taken of ``statistics(of:by:extent:workspace:execution:)``.
  ///   - lossExtent: the tokens that these were of: the batch's, or this rank's alone, which DeepSpeed and Megatron-Core
  ///     then divide by R.
  ///   - inputGradient: activations of the input's shape, overwritten with dL/dinput.
  ///   - gradients: added to.
  ///   - workspace: scratch.
  ///   - execution: as of the forward pass.
  /// - Throws: as ``MoELayer``'s, and `CommunicationError`.
  public func backward(
    _ outputGradient: Activations, input: Activations, recording: inout ExpertParallelRecording,
    losses: RouterLossGradients = RouterLossGradients(), of lossExtent: Extent = .batch,
    into inputGradient: inout Activations, gradients: MoEGradients, workspace: inout ExpertParallelWorkspace,
    execution: Execution? = nil
  ) throws {
    let execution = try execution ?? .automatic()
    try part.validateBackward(
      outputGradient, input: input, pass: recording.local.pass, inputGradient: inputGradient,
      gradients: gradients, execution: execution)
    let first = recording.kept.firstTokens[communicator.rank]
    let losses =
      lossExtent == .rank ? losses : try losses.ofTokens(first..<first + input.tokenCount)
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
      tokens, trip: .recompute, isRecorded: true, needsRows: part.backwardReadsRows,
      during: "the backward pass",
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
  /// 4. Exchange rows: the gradient of a row goes back to the rank of its token. Beside it, or while slices are waited
  ///    for, gradients of the parameters of experts, row after row in the order of the whole batch.
  /// 5. Exchange products of rows and gradients, where the rows were added up before they came back; then gradients of
  ///    experts on several ranks, replica after replica.
  /// 6. Gather: each token adds up the gradients of its rows, and of the dense branch.
  /// 7. Router and gate: what they add to the tokens.
  /// 8. Gradients of the parameters of router, gate and branch, token after token, rank after rank.
  private func backward(
    _ output: UnsafePointer<Float>, tokens: UnsafePointer<Float>, tokenCount: Int,
    losses: RouterLossGradients, into inputGradient: UnsafeMutablePointer<Float>, gradients: MoEGradients,
    execution: Execution, workspace: inout ExpertParallelWorkspace
  ) throws {
    let activity = "the backward pass"
    let dispatch = workspace.kept.dispatch!
    let buffers = workspace.tripBuffers(dispatch, width: configuration.hiddenSize, payload: exchange.payload)
    workspace.reserve(slices: dispatch.slices.count)
    let choices = tokenCount * configuration.expertsPerToken
    let factors = unsafe try rowFactors(
      output, forwardRows: buffers.returnedRows.floats, tokenCount: tokenCount, execution: execution,
      workspace: &workspace)
    let owned = unsafe try dispatch.send(factors, communicator: communicator, during: activity)

    var branchRows: UnsafePointer<Float>?
    var products: [[Float]] = []
    let returned = unsafe try dispatch.trip(
      output, buffers: buffers, communicator: communicator, during: activity, execution: execution,
      meter: OverlapMeter.Reader(meter, .backward, tokens: tokenCount), weighsSums: false,
      before: {
        unsafe branchRows = try part.branchBackward(
          output, tokenCount: tokenCount, execution: execution, workspace: &workspace.local)
      },
      compute: { index, received in
        let slice = dispatch.slices[index]
        if dispatch.returned == .partialSums {
          products.append(
            unsafe try Kernels.rowProducts(
              received, order: slice.order, rows: workspace.tiles[index].rows.reserve(0, of: Float.self),
              rowCount: slice.rowCount, hiddenSize: configuration.hiddenSize, execution: execution))
        }
        return unsafe UnsafePointer(
          try Kernels.networkBackward(
            part.experts, output: received, order: slice.order, rowWeights: owned[index],
            offsets: slice.offsets, rowCount: slice.rowCount, execution: execution,
            forward: &workspace.tiles[index], backward: &workspace.backwardTiles[index],
            scratch: &workspace.local.kernel))
      },
      fill: { index in
        try addOwnGradients(ofSlice: index, to: gradients, execution: execution, workspace: &workspace)
      })
    if dispatch.returned == .partialSums {
      let gradients = try dispatch.sendBack(products, communicator: communicator, during: activity)
      unsafe try workspace.local.backward.weightGradients.reserve(choices, of: Float.self)
        .update(from: gradients, count: choices)
    }
    try addReplicatedGradients(to: gradients, execution: execution, during: activity, workspace: &workspace)
    unsafe try part.gatherBackward(
      returned!, tokens: tokens, branchRows: branchRows, tokenCount: tokenCount, into: inputGradient,
      execution: execution, workspace: &workspace.local)
    unsafe try part.routersBackward(
      tokens, tokenCount: tokenCount, losses: losses, into: inputGradient, execution: execution,
      workspace: &workspace.local)
    try addSharedGradients(
      tokenCount: tokenCount, to: gradients, execution: execution, during: activity, workspace: &workspace)
  }

  /// What each choice's row was multiplied by, `[t, K]`; dL/dweights and dL/dgates stay in the workspace, the former only
  /// where a choice's own row came back.
  private func rowFactors(
    _ output: UnsafePointer<Float>, forwardRows: UnsafePointer<Float>, tokenCount: Int, execution: Execution,
    workspace: inout ExpertParallelWorkspace
  ) throws(MoEError) -> [Float] {
    let dispatch = workspace.kept.dispatch!
    let rowWeights = unsafe try part.combineBackward(
      output, forwardRows: forwardRows, rowCount: dispatch.returnedRowCount, tokenCount: tokenCount,
      execution: execution, workspace: &workspace.local)
    switch dispatch.returned {
    case .perChoice:
      return dispatch.choiceRow.map { unsafe $0 < 0 ? 0 : rowWeights[Int($0)] }
    case .partialSums:
      let weights = unsafe try workspace.local.routing.expertWeights.reserve(
        dispatch.choiceRow.count, of: Float.self)
      return unsafe Array(UnsafeBufferPointer(start: weights, count: dispatch.choiceRow.count))
    }
  }
}
