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
    let pass = recording.pass
    try part.validateBackward(
      outputGradient, input: input, pass: pass?.identity, inputGradient: inputGradient,
      gradients: gradients, execution: execution)
    guard let pass else { return }
    let first = pass.order.firstTokens[communicator.rank]
    let losses =
      lossExtent == .rank ? losses : try losses.ofTokens(first..<first + input.tokenCount)
    try losses.validate(tokenCount: input.tokenCount, expertCount: configuration.expertCount)
    recording.pass = nil
    workspace.exchange(with: &recording)
    defer { workspace.exchange(with: &recording) }
    try run(
      MemoryView(outputGradient.tokens), of: pass, tokens: MemoryView(input.tokens), losses: losses,
      into: MemoryView(writing: &inputGradient.tokens), gradients: gradients, execution: execution,
      workspace: &workspace)
  }

  /// Computes the activations of a pass again whose routing was kept: the tokens travel again.
  private func recompute(
    _ tokens: MemoryView<Float>, _ order: SpreadOrder, step: String, execution: Execution,
    workspace: inout ExpertParallelWorkspace
  ) throws -> SpreadActivations {
    var branch: NetworkTiles?
    let (slices, rows) = try expertRows(
      tokens, order, trip: .recompute, isRecorded: true, needsRows: part.backwardReadsRows, step: step,
      execution: execution, workspace: &workspace
    ) { workspace in
      branch = try part.applyBranch(
        tokens, isRecorded: true, needsRows: part.branchGate != nil, execution: execution,
        workspace: &workspace.local)
    }
    return SpreadActivations(slices: slices, rows: rows, branch: branch)
  }

  /// 1. Combine: gradients of the experts' weights, and of the gates of the dense branch.
  /// 2. Exchange gradients of the output: each token's goes to the ranks that the token went to, and with it the factor
  ///    of each row. Beside it, the dense branch: gradients of the rows it took in.
  /// 3. Experts: gradients of the rows they took in.
  /// 4. Exchange rows: the gradient of a row goes back to the rank of its token. Beside it, or while slices are waited
  ///    for, gradients of the parameters of experts, row after row in the order of the whole batch.
  /// 5. Exchange products of rows and gradients, where the rows were added up before they came back; then gradients of
  ///    experts on several ranks, replica after replica.
  /// 6. Gather: each token adds up the gradients of its rows, and of the dense branch.
  /// 7. Router and gate: each adds the gradients of the tokens.
  /// 8. Gradients of the parameters of router, gate and branch, token after token, rank after rank.
  private func run(
    _ output: MemoryView<Float>, of pass: RecordedSpreadPass, tokens: MemoryView<Float>,
    losses: RouterLossGradients, into inputGradient: MemoryView<Float>, gradients: MoEGradients,
    execution: Execution, workspace: inout ExpertParallelWorkspace
  ) throws {
    let step = "the backward pass"
    let (order, dispatch) = (pass.order, pass.order.dispatch)
    let (routes, choices, gates) = (order.routes, order.choices, order.gates)
    let forward =
      try pass.activations
      ?? recompute(tokens, order, step: step, execution: execution, workspace: &workspace)
    let buffers = workspace.tripBuffers(dispatch, width: configuration.hiddenSize, payload: exchange.payload)
    workspace.reserve(slices: dispatch.slices.count)

    let combined = try part.combineBackward(
      output, rows: forward.rows, choices, routes, branch: forward.branch, gates: gates,
      execution: execution, workspace: &workspace.local)
    let factors = unsafe try dispatch.send(
      choiceFactors(combined, order), communicator: communicator, step: step
    ).map { factors throws(MoEError) in try MemoryView(copying: factors) }

    var branch: NetworkGradientTiles?
    var slices: [NetworkGradientTiles] = []
    var products: [[Float]] = []
    let rows = try dispatch.trip(
      output, buffers: buffers, communicator: communicator, step: step, execution: execution,
      meter: OverlapMeter.Reader(meter, .backward, tokens: routes.choices.tokenCount), weighsSums: false,
      before: {
        branch = try part.branchBackward(
          output, forward: forward.branch, gates: gates, execution: execution, workspace: &workspace.local)
      },
      compute: { index, received in
        if dispatch.returned == .partialSums {
          products.append(try forward.slices[index].products(with: received, execution: execution))
        }
        let slice = try part.experts.backward(
          received, rowWeights: factors[index], forward: forward.slices[index], execution: execution,
          tiles: &workspace.backwardTiles[index], scratch: &workspace.local.call)
        slices.append(slice)
        return slice.rows
      },
      fill: { index in
        try addOwnGradients(of: slices[index], to: gradients, execution: execution, workspace: &workspace)
      })!
    let weightGradients =
      if dispatch.returned == .partialSums {
        try MemoryView(copying: dispatch.sendBack(products, communicator: communicator, step: step))
      } else if let made = combined.weightGradients {
        made
      } else {
        try part.inputWeightGradients(
          tokens, rows: rows, choices, routes, execution: execution, workspace: &workspace.local)
      }
    try addReplicatedGradients(
      of: slices, dispatch, to: gradients, execution: execution, step: step, workspace: &workspace)
    part.gatherBackward(rows, choices, routes, branch: branch, into: inputGradient, execution: execution)
    let routers = try part.routersBackward(
      tokens, routes, gates, weightGradients: weightGradients, gateGradients: combined.gateGradients,
      losses: losses, into: inputGradient, execution: execution, workspace: &workspace.local)
    try addSharedGradients(
      SharedGradientTiles(routers: routers, branch: branch), firstTokens: order.firstTokens, to: gradients,
      execution: execution, step: step, workspace: &workspace)
  }

  /// The factor that each choice's row was multiplied by, `[t, K]`.
  private func choiceFactors(_ combined: CombineGradients, _ order: SpreadOrder) -> [Float] {
    switch order.dispatch.returned {
    case .perChoice:
      order.dispatch.choiceRow.map { $0 < 0 ? 0 : combined.rowWeights[Int($0)] }
    case .partialSums:
      order.routes.choices.weights.elements
    }
  }
}
