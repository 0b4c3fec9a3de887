public import MoE
public import MoECore

extension ExpertParallelLayer {
  /// Makes zeros for the gradients of the parameters that this rank holds.
  ///
  /// - Throws: `MoEError.outOfMemory`.
  public func makeGradients() throws(MoEError) -> MoEGradients { try MoEGradients(for: localLayer) }

  /// Returns gradients in the shapes of the parameters; the experts are ``localExperts``, with tensor parallelism the
  /// shards of their F that this rank holds.
  ///
  /// - Precondition: the gradients were made by ``makeGradients()`` of this layer.
  public func weights(of gradients: MoEGradients) -> MoEWeights { gradients.weights(of: localLayer) }

  /// Adds the gradients of a recorded pass to `gradients` and writes the gradient of this rank's input. A collective.
  ///
  /// Afterwards every rank has the same sums for router, dense branch and gate, those of the whole batch; for its experts
  /// it has the sums over all tokens that they computed. Before the call the sums have to be the same on all ranks that
  /// hold a parameter, as they are after ``makeGradients()`` and after earlier calls.
  ///
  /// - Parameters:
  ///   - outputGradient: dL/doutput in the shape of this rank's output.
  ///   - input: the input of the recorded pass.
  ///   - recording: of that pass; it can be used once.
  ///   - losses: the gradients of losses of ``statistics(of:by:extent:workspace:execution:)``.
  ///   - lossExtent: the tokens that these losses count: those of the batch, or those of this rank alone, which DeepSpeed
  ///     and Megatron-Core then divide by R.
  ///   - inputGradient: activations of the input's shape, overwritten with dL/dinput.
  ///   - gradients: added to.
  ///   - workspace: scratch.
  ///   - execution: the instruction set of the forward pass, and the threads; nil for this rank's share of `Execution.automatic()`.
  /// - Throws: as `MoELayer`, and `CommunicationError`.
  public func backward(
    _ outputGradient: Activations, input: Activations, recording: inout ExpertParallelRecording,
    losses: RouterLossGradients = RouterLossGradients(), of lossExtent: Extent = .batch,
    into inputGradient: inout Activations, gradients: MoEGradients, workspace: inout ExpertParallelWorkspace,
    execution: Execution? = nil
  ) throws {
    let execution = try execution ?? communicator.share(of: .automatic())
    try localLayer.validateBackward(
      outputGradient, input: input, pass: recording.local.pass, inputGradient: inputGradient,
      gradients: gradients, execution: execution)
    let pass = recording.dispatched!
    let losses =
      lossExtent == .rank ? losses : try losses.ofTokens(pass.batch.tokens(ofRank: communicator.rank))
    try losses.validate(tokenCount: input.tokenCount, expertCount: configuration.expertCount)
    recording.local.pass = nil
    let extent = recording.local.extent
    workspace.exchange(with: &recording)
    defer { workspace.exchange(with: &recording) }
    try unsafe input.tokens.withUnsafeBufferPointer { values in
      try unsafe outputGradient.tokens.withUnsafeBufferPointer { output in
        try unsafe inputGradient.tokens.withUnsafeMutableBufferPointer { result in
          let tokens = unsafe LocalTokens(
            values: values.baseAddress!, count: input.tokenCount, sequenceLength: input.sequenceLength,
            mask: nil)
          try Parallel.polling({ communicator.poll() }) {
            unsafe try backward(
              output.baseAddress!, tokens: tokens, pass: (pass, extent), losses: losses,
              into: result.baseAddress!, gradients: gradients, execution: execution, workspace: &workspace)
          }
        }
      }
    }
  }

  /// 1. If only the routing was recorded, dispatch the tokens again and recompute the activations.
  /// 2. Combine, backward: gradients of the experts' weights and of the gates of the dense branch, and the weight of each
  ///    row. Send the row weights to the ranks of the experts.
  /// 3. Dispatch the gradients of the output, slice by slice, as the tokens were dispatched.
  /// 4. While the first slice travels, the dense branch: gradients of the rows that it took in.
  /// 5. Experts, slice by slice: gradients of the rows that they took in, which travel back to the ranks of the tokens while
  ///    the next slice is computed. Gradients of the experts' parameters are computed while a slice is waited for, row
  ///    after row in the order of the whole batch.
  /// 6. Return products of rows and gradients if rows were added up before they came back. Add up the gradients of experts
  ///    on several ranks, replica after replica.
  /// 7. Permute, backward: each token adds up the gradients of its rows, and of the dense branch.
  /// 8. Router and gate: their contribution to the gradients of the tokens.
  /// 9. Gradients of the parameters of router, gate and branch, token after token, rank after rank.
  private func backward(
    _ output: UnsafePointer<Float>, tokens: LocalTokens,
    pass: (dispatched: DispatchedPass, extent: Recording.Extent),
    losses: RouterLossGradients, into inputGradient: UnsafeMutablePointer<Float>, gradients: MoEGradients,
    execution: Execution, workspace: inout ExpertParallelWorkspace
  ) throws {
    let activity = "the backward pass"
    let plan = pass.dispatched.plan
    workspace.reserve(slices: plan.slices.count)
    let buffers = workspace.buffers(
      for: plan, width: configuration.hiddenSize, payload: exchange.payload)

    // 1.
    if pass.extent == .recompute {
      try recompute(
        tokens, by: plan, through: buffers, during: activity, execution: execution, workspace: &workspace)
    }
    // 2.
    let choiceWeights = unsafe try rowWeights(
      output, forwardRows: buffers.returnedRows.floats, tokenCount: tokens.count, plan: plan,
      execution: execution, workspace: &workspace)
    let rowWeights = unsafe try plan.sendChoices(choiceWeights, over: communicator, during: activity)
    // 3.
    var handle = unsafe try plan.dispatch(
      output, through: buffers, over: communicator, execution: execution,
      meter: OverlapMeter.Reader(meter, .backward, tokens: tokens.count), during: activity)
    // 4.
    let branchRows = unsafe try localLayer.branchBackward(
      output, tokenCount: tokens.count, execution: execution, workspace: &workspace.local)
    // 5.
    var products: [[Float]] = []
    var addedSlices = 0
    for (index, slice) in plan.slices.enumerated() {
      while addedSlices < index, !handle.hasArrived(index) {
        try addLocalGradients(
          of: plan, slice: addedSlices, to: gradients, execution: execution, workspace: &workspace)
        addedSlices += 1
      }
      let received = unsafe try handle.receive(index)
      if plan.returned == .partialSums {
        products.append(
          unsafe try Kernels.rowProducts(
            received, order: slice.order, rows: workspace.tiles[index].rows.reserve(0, of: Float.self),
            rowCount: slice.rowCount, hiddenSize: configuration.hiddenSize, execution: execution))
      }
      let rows = unsafe try Kernels.networkBackward(
        localLayer.experts, output: received, order: slice.order, rowWeights: rowWeights[index],
        offsets: slice.offsets, rowCount: slice.rowCount, execution: execution,
        forward: &workspace.tiles[index], backward: &workspace.backwardTiles[index],
        scratch: &workspace.local.kernel)
      unsafe try handle.sendBack(rows, ofSlice: index, weighsSums: false)
    }
    for slice in addedSlices..<plan.slices.count {
      try addLocalGradients(
        of: plan, slice: slice, to: gradients, execution: execution, workspace: &workspace)
    }
    let returned = unsafe try handle.combine()
    // 6.
    if plan.returned == .partialSums {
      let weightGradients = try plan.returnToChoices(products, over: communicator, during: activity)
      unsafe try workspace.local.backward.weightGradients.reserve(weightGradients.count, of: Float.self)
        .update(from: weightGradients, count: weightGradients.count)
    }
    try addReplicatedGradients(
      of: plan, to: gradients, during: activity, execution: execution, workspace: &workspace)
    // 7.
    unsafe try localLayer.gatherBackward(
      returned, tokens: tokens.values, branchRows: branchRows, tokenCount: tokens.count, into: inputGradient,
      execution: execution, workspace: &workspace.local)
    // 8.
    unsafe try localLayer.routersBackward(
      tokens.values, tokenCount: tokens.count, losses: losses, into: inputGradient, execution: execution,
      workspace: &workspace.local)
    // 9.
    try addSharedGradients(
      of: pass.dispatched.batch, to: gradients, during: activity, execution: execution, workspace: &workspace)
  }

  /// Dispatches the tokens of a pass again and computes the activations that the pass did not keep.
  private func recompute(
    _ tokens: LocalTokens, by plan: DispatchPlan, through buffers: DispatchBuffers, during activity: String,
    execution: Execution, workspace: inout ExpertParallelWorkspace
  ) throws {
    let needsRows = localLayer.backwardReadsRows
    var handle = unsafe try plan.dispatch(
      tokens.values, through: buffers, over: communicator, execution: execution,
      meter: OverlapMeter.Reader(meter, .recompute, tokens: tokens.count), during: activity)
    if localLayer.branch != nil {
      _ = unsafe try localLayer.branchRows(
        tokens.values, tokenCount: tokens.count, isRecorded: true, needsRows: localLayer.branchGate != nil,
        execution: execution, workspace: &workspace.local)
    }
    for (index, slice) in plan.slices.enumerated() {
      let received = unsafe try handle.receive(index)
      let rows = unsafe try expertRows(
        received, of: slice, tile: index, isRecorded: true, needsRows: needsRows, execution: execution,
        workspace: &workspace)
      if needsRows { unsafe try handle.sendBack(rows, ofSlice: index) }
    }
    if needsRows { _ = unsafe try handle.combine() } else { try handle.discard() }
  }

  /// Returns the number by which each choice's row was multiplied, `[t, K]`.
  ///
  /// dL/dweights and dL/dgates stay in the workspace, dL/dweights only if each choice's own row came back.
  private func rowWeights(
    _ output: UnsafePointer<Float>, forwardRows: UnsafePointer<Float>, tokenCount: Int, plan: DispatchPlan,
    execution: Execution, workspace: inout ExpertParallelWorkspace
  ) throws(MoEError) -> [Float] {
    let rowWeights = unsafe try localLayer.combineBackward(
      output, forwardRows: forwardRows, rowCount: plan.returnedRowCount, tokenCount: tokenCount,
      execution: execution, workspace: &workspace.local)
    switch plan.returned {
    case .perChoice:
      return plan.choiceRow.map { unsafe $0 < 0 ? 0 : rowWeights[Int($0)] }
    case .partialSums:
      let weights = unsafe try workspace.local.routing.expertWeights.reserve(
        plan.choiceRow.count, of: Float.self)
      return unsafe Array(UnsafeBufferPointer(start: weights, count: plan.choiceRow.count))
    }
  }
}
