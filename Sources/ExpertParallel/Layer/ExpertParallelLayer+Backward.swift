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
  /// Afterwards every rank has the same sums for router, dense branch and gate, those of the whole batch; for its
  /// experts it has the sums over all tokens that they computed. Before the call the sums have to be the same on all
  /// ranks that hold a parameter, as they are after ``makeGradients()`` and after earlier calls.
  ///
  /// - Parameters:
  ///   - outputGradient: dL/doutput in the shape of this rank's output.
  ///   - input: the input of the recorded pass.
  ///   - recording: the recording of that pass; it can be used once.
  ///   - losses: the gradients of the losses that were computed from ``statistics(of:by:extent:workspace:execution:)``.
  ///   - lossExtent: the tokens that these losses count: those of the batch, or those of this rank alone, which
  ///     DeepSpeed and Megatron-Core then divide by R.
  ///   - inputGradient: activations of the input's shape, overwritten with dL/dinput.
  ///   - gradients: the sums that the gradients are added to.
  ///   - workspace: scratch.
  ///   - execution: the instruction set of the forward pass, and the threads; nil for this rank's share of
  ///     `Execution.automatic()`.
  /// - Throws: as `MoELayer`, and `CommunicationError`.
  public func backward(
    _ outputGradient: Activations, input: Activations, recording: inout ExpertParallelRecording,
    losses: RouterLossGradients = RouterLossGradients(), of lossExtent: Extent = .batch,
    into inputGradient: inout Activations, gradients: MoEGradients, workspace: inout ExpertParallelWorkspace,
    execution: Execution? = nil
  ) throws {
    let execution = try execution ?? communicator.share(of: .automatic())
    let pass = recording.pass
    try localLayer.validateBackward(
      outputGradient, input: input, pass: pass?.identity, inputGradient: inputGradient,
      gradients: gradients, execution: execution)
    guard let pass else { return }
    let tokens = pass.dispatched.batch.tokens(ofRank: communicator.rank)
    let losses = lossExtent == .rank ? losses : try losses.ofTokens(tokens)
    try losses.validate(tokenCount: input.tokenCount, expertCount: configuration.expertCount)
    recording.pass = nil
    workspace.exchange(with: &recording)
    defer { workspace.exchange(with: &recording) }
    try Parallel.polling({ communicator.poll() }) {
      try run(
        MemoryView(outputGradient.tokens), of: pass, tokens: MemoryView(input.tokens), losses: losses,
        into: MemoryView(writing: &inputGradient.tokens), gradients: gradients, execution: execution,
        workspace: &workspace)
    }
  }

  /// 1. If only the routing was recorded, dispatch the tokens again and recompute the activations.
  /// 2. Combine, backward: gradients of the experts' weights and of the gates of the dense branch, and the weight of
  ///    each row. Send the row weights to the ranks of the experts.
  /// 3. Dispatch the gradients of the output, slice by slice, as the tokens were dispatched.
  /// 4. While the first slice travels, compute the dense branch: the gradients of its input rows.
  /// 5. Compute the experts slice by slice: the gradients of their input rows, which travel back to the ranks of the
  ///    tokens while the next slice is computed. While a rank waits for a slice, it computes gradients of the experts'
  ///    parameters, row after row in the order of the whole batch.
  /// 6. If rows were added up before they came back, return the products of rows and gradients. Add up the gradients of
  ///    experts on several ranks, replica after replica.
  /// 7. Permute, backward: each token adds up the gradients of its rows, and of the dense branch.
  /// 8. Add the contributions of router and gate to the gradients of the tokens.
  /// 9. Add the gradients of the parameters of router, gate and branch, token after token, rank after rank.
  private func run(
    _ output: MemoryView<Float>, of pass: RecordedDispatch, tokens: MemoryView<Float>,
    losses: RouterLossGradients, into inputGradient: MemoryView<Float>, gradients: MoEGradients,
    execution: Execution, workspace: inout ExpertParallelWorkspace
  ) throws {
    let activity = "the backward pass"
    let (dispatched, plan) = (pass.dispatched, pass.dispatched.plan)
    let (routes, choices, gates) = (dispatched.routes, dispatched.choices, dispatched.gates)
    workspace.reserve(slices: plan.slices.count)
    let buffers = workspace.buffers(
      for: plan, width: configuration.hiddenSize, payload: exchange.payload)

    // 1.
    let forward =
      try pass.activations
      ?? recompute(
        tokens, of: dispatched, through: buffers, during: activity, execution: execution,
        workspace: &workspace)
    // 2.
    let combined = try localLayer.combineBackward(
      output, rows: forward.rows, choices, routes, branch: forward.branch, gates: gates,
      execution: execution, workspace: &workspace.local)
    let rowWeights = try plan.sendChoices(
      choiceWeights(combined, dispatched), over: communicator, during: activity
    ).map { weights throws(MoEError) in try MemoryView(copying: weights) }
    // 3.
    var handle = try plan.dispatch(
      output, through: buffers, over: communicator, execution: execution,
      meter: OverlapMeter.Reader(meter, .backward, tokens: routes.choices.tokenCount), during: activity)
    // 4.
    let branch = try localLayer.branchBackward(
      output, forward: forward.branch, gates: gates, execution: execution, workspace: &workspace.local)
    // 5.
    var slices: [NetworkGradientTiles] = []
    var products: [[Float]] = []
    var addedSlices = 0
    for (index, slice) in forward.slices.enumerated() {
      while addedSlices < index, !handle.hasArrived(index) {
        try addLocalGradients(
          of: slices[addedSlices], to: gradients, execution: execution, workspace: &workspace)
        addedSlices += 1
      }
      let received = try handle.receive(index)
      if plan.returned == .partialSums {
        products.append(try slice.products(with: received, execution: execution))
      }
      let back = try localLayer.experts.backward(
        received, rowWeights: rowWeights[index], forward: slice, execution: execution,
        tiles: &workspace.backwardTiles[index], scratch: &workspace.local.call)
      slices.append(back)
      try handle.sendBack(back.rows, ofSlice: index, weighsSums: false)
    }
    for slice in slices[addedSlices...] {
      try addLocalGradients(of: slice, to: gradients, execution: execution, workspace: &workspace)
    }
    let rows = try handle.combine()
    // 6.
    let weightGradients =
      if plan.returned == .partialSums {
        try MemoryView(copying: plan.returnToChoices(products, over: communicator, during: activity))
      } else if let made = combined.weightGradients {
        made
      } else {
        try localLayer.inputWeightGradients(
          tokens, rows: rows, choices, routes, execution: execution, workspace: &workspace.local)
      }
    try addReplicatedGradients(
      of: slices, at: plan.rows, to: gradients, during: activity, execution: execution,
      workspace: &workspace)
    // 7.
    localLayer.gatherBackward(
      rows, choices, routes, branch: branch, into: inputGradient, execution: execution)
    // 8.
    let routers = try localLayer.routersBackward(
      tokens, routes, choices, gates, weightGradients: weightGradients,
      gateGradients: combined.gateGradients,
      losses: losses, into: inputGradient, execution: execution, workspace: &workspace.local)
    // 9.
    try addSharedGradients(
      of: SharedGradientTiles(routers: routers, branch: branch), in: dispatched.batch, to: gradients,
      during: activity, execution: execution, workspace: &workspace)
  }

  /// Dispatches the tokens of a pass again and computes the activations that the pass did not keep.
  private func recompute(
    _ tokens: MemoryView<Float>, of pass: DispatchedPass, through buffers: DispatchBuffers,
    during activity: String, execution: Execution, workspace: inout ExpertParallelWorkspace
  ) throws -> DispatchedActivations {
    let needsRows = localLayer.backwardReadsRows
    var handle = try pass.plan.dispatch(
      tokens, through: buffers, over: communicator, execution: execution,
      meter: OverlapMeter.Reader(meter, .recompute, tokens: pass.routes.choices.tokenCount),
      during: activity)
    let branch = try localLayer.applyBranch(
      tokens, isRecorded: true, needsRows: localLayer.branchGate != nil, execution: execution,
      workspace: &workspace.local)
    var slices: [NetworkTiles] = []
    for (index, slice) in pass.slices.enumerated() {
      let received = try handle.receive(index)
      let made = try applyExperts(
        received, slice, tile: index, isRecorded: true, needsRows: needsRows, execution: execution,
        workspace: &workspace)
      if let rows = made.rows { try handle.sendBack(rows, ofSlice: index) }
      slices.append(made)
    }
    guard needsRows else {
      try handle.discard()
      return DispatchedActivations(slices: slices, rows: nil, branch: branch)
    }
    return DispatchedActivations(slices: slices, rows: try handle.combine(), branch: branch)
  }

  /// Returns the number by which each choice's row was multiplied, `[t, K]`.
  private func choiceWeights(_ combined: CombineGradients, _ pass: DispatchedPass) -> [Float] {
    switch pass.plan.returned {
    case .perChoice: pass.plan.choiceRow.map { $0 < 0 ? 0 : combined.rowWeights[Int($0)] }
    case .partialSums: pass.routes.choices.weights.elements
    }
  }
}
