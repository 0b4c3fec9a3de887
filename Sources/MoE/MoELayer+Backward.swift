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

  private func recordedPass(_ input: Activations, _ execution: Execution) -> RecordedPass {
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
    let execution = if let execution { execution } else { try Execution.automatic() }
    guard let pass = recording.pass, pass.tokenCount == input.tokenCount else {
      throw .invalidConfiguration("the recording holds no pass over \(input.tokenCount) tokens")
    }
    guard pass == recordedPass(input, execution) else {
      throw .invalidConfiguration(
        "the recording is of a layer in \(pass.precision) on \(pass.instructionSet), the backward pass of one in "
          + "\(experts.precision) on \(execution.instructionSet); layer and instruction set have to be the same"
      )
    }
    guard gradients.configuration == configuration else {
      throw .invalidConfiguration("the gradients are of a layer of another configuration")
    }
    try validate(input, mask: nil, output: inputGradient)
    try check(outputGradient.shape, input.shape, "the output gradient")
    try losses.validate(tokenCount: input.tokenCount, expertCount: configuration.expertCount)
    recording.pass = nil
    workspace.exchange(with: &recording)
    defer { workspace.exchange(with: &recording) }
    unsafe try input.tokens.withUnsafeBufferPointer { tokens throws(MoEError) in
      unsafe try outputGradient.tokens.withUnsafeBufferPointer { output throws(MoEError) in
        unsafe try inputGradient.tokens.withUnsafeMutableBufferPointer { result throws(MoEError) in
          if recording.extent == .recompute {
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

  /// The activations of a pass of which the routing was kept.
  private func recompute(
    _ tokens: UnsafePointer<Float>, tokenCount: Int, execution: Execution, workspace: inout Workspace
  ) throws(MoEError) {
    let expertCount = configuration.expertCount
    let rowCount = unsafe Int(
      try workspace.routing.offsets.reserve(expertCount + 1, of: Int64.self)[expertCount])
    // The gradients of weights and gates are products with the rows that these multiplied.
    let weighsOutput = configuration.routing.weightPlacement == .output
    _ = unsafe try expertRows(
      tokens, rowCount: rowCount, isRecorded: true,
      needsRows: weighsOutput || branchGate.map { $0.expertCount == 2 } ?? false, execution: execution,
      workspace: &workspace)
    if let branch {
      _ = unsafe try branchRows(
        branch, tokens, tokenCount: tokenCount, isRecorded: true, needsRows: branchGate != nil,
        execution: execution, workspace: &workspace)
    }
  }

  /// 1. Gates of the dense branch: what its output and the experts' sum were multiplied by.
  /// 2. Combine: gradients of the experts' weights.
  /// 3. Experts: gradients of their parameters and of the rows they took in.
  /// 4. Gather: each token adds up the gradients of its rows, and of the dense branch.
  /// 5. Router and gate: gradients of their parameters, and what they add to the tokens.
  private func backward(
    _ output: UnsafePointer<Float>, tokens: UnsafePointer<Float>, tokenCount: Int,
    losses: RouterLossGradients, into inputGradient: UnsafeMutablePointer<Float>, gradients: MoEGradients,
    execution: Execution, workspace: inout Workspace
  ) throws(MoEError) {
    let (hidden, chosen) = (configuration.hiddenSize, configuration.expertsPerToken)
    let choices = tokenCount * chosen
    let weighsInput = configuration.routing.weightPlacement == .input
    let offsets = unsafe UnsafePointer(
      try workspace.routing.offsets.reserve(configuration.expertCount + 1, of: Int64.self))
    let rowCount = unsafe Int(offsets[configuration.expertCount])
    let choiceRow = unsafe UnsafePointer(try workspace.routing.choiceRow.reserve(choices, of: Int32.self))
    let weights = unsafe UnsafePointer(try workspace.routing.expertWeights.reserve(choices, of: Float.self))
    let weightGradients = unsafe try workspace.backward.weightGradients.reserve(choices, of: Float.self)
    let gates = unsafe try branchGates(tokenCount: tokenCount, workspace: &workspace)

    let forwardRows = unsafe try workspace.experts.rows.reserve(rowCount * hidden, of: Float.self)
    if !weighsInput {
      unsafe Kernels.combineBackward(
        output, rows: forwardRows, choiceRow: choiceRow, tokenCount: tokenCount, expertsPerToken: chosen,
        hiddenSize: hidden, into: weightGradients, execution: execution)
    }
    let gateGradients = unsafe try branchGateGradients(
      output, forwardRows: forwardRows, tokenCount: tokenCount, weights: weighsInput ? nil : weights,
      choiceRow: choiceRow, execution: execution, workspace: &workspace)

    // A row's output was multiplied by its weight, unless its input was, and by the gate's first column.
    let rowWeights = unsafe try workspace.backward.rowWeights.reserve(rowCount, of: Float.self)
    for choice in 0..<choices where unsafe choiceRow[choice] >= 0 {
      let gate = unsafe gates.map { unsafe $0.experts(choice / chosen) } ?? 1
      unsafe rowWeights[Int(choiceRow[choice])] = weighsInput ? gate : weights[choice] * gate
      if !weighsInput { unsafe weightGradients[choice] *= gate }
    }
    let rowToken = unsafe try workspace.routing.rowToken.reserve(rowCount, of: Int32.self)
    let rows = unsafe try Kernels.networkBackward(
      experts, output: output, order: rowToken, rowWeights: rowWeights, offsets: offsets, rowCount: rowCount,
      gradients: gradients.experts, execution: execution, forward: &workspace.experts,
      backward: &workspace.backward.experts, scratch: &workspace.kernel)
    if weighsInput {
      unsafe Kernels.combineBackward(
        tokens, rows: rows, choiceRow: choiceRow, tokenCount: tokenCount, expertsPerToken: chosen,
        hiddenSize: hidden, into: weightGradients, execution: execution)
    }

    let branchRows = unsafe try branchBackward(
      output, gates: gates, tokenCount: tokenCount, gradients: gradients.branch, execution: execution,
      workspace: &workspace)
    unsafe Kernels.combine(
      rows, choiceRow: choiceRow, weights: weighsInput ? weights : nil, tokenCount: tokenCount,
      expertsPerToken: chosen, hiddenSize: hidden,
      branch: branchRows.map { unsafe Kernels.Branch(rows: $0, gates: nil, gateColumns: 0) },
      into: inputGradient, execution: execution)

    unsafe try Kernels.routerBackward(
      router, input: tokens, tokenCount: tokenCount,
      logits: try workspace.routing.logits.reserve(
        tokenCount * configuration.expertCount, of: Float.self),
      expertIDs: try workspace.routing.expertIDs.reserve(choices, of: Int32.self),
      weightGradients: weightGradients, losses: losses, noise: workspace.routing.noise,
      gradients: gradients.router,
      inputGradient: inputGradient, execution: execution, backward: &workspace.backward,
      scratch: &workspace.kernel)
    if let branchGate, let gateGradients = unsafe gateGradients, let sums = gradients.branchGate {
      unsafe try Kernels.routerBackward(
        branchGate, input: tokens, tokenCount: tokenCount,
        logits: try workspace.routing.branchLogits.reserve(0, of: Float.self),
        expertIDs: try workspace.routing.branchIDs.reserve(0, of: Int32.self),
        weightGradients: gateGradients, losses: RouterLossGradients(), gradients: sums,
        inputGradient: inputGradient, execution: execution, backward: &workspace.backward,
        scratch: &workspace.kernel)
    }
  }
}

// MARK: - Dense branch

/// The gates of a recorded dense branch.
@unsafe private struct BranchGates {
  let values: UnsafePointer<Float>
  let columns: Int

  /// What the experts' sum of a token was multiplied by.
  func experts(_ token: Int) -> Float { unsafe columns == 2 ? values[token * 2] : 1 }
  /// What the branch's output of a token was multiplied by.
  func branch(_ token: Int) -> Float { unsafe values[token * columns + columns - 1] }
}

extension MoELayer {
  private func branchGates(tokenCount: Int, workspace: inout Workspace) throws(MoEError) -> BranchGates? {
    guard let branchGate else { return nil }
    let columns = branchGate.expertCount
    return unsafe BranchGates(
      values: try workspace.routing.branchGate.reserve(tokenCount * columns, of: Float.self),
      columns: columns)
  }

  /// dL/dgate of each token, in the order of the gate's own choices: the branch's output, and for two columns the
  /// experts' sum, times the output's gradient.
  private func branchGateGradients(
    _ output: UnsafePointer<Float>, forwardRows: UnsafePointer<Float>, tokenCount: Int,
    weights: UnsafePointer<Float>?, choiceRow: UnsafePointer<Int32>, execution: Execution,
    workspace: inout Workspace
  ) throws(MoEError) -> UnsafePointer<Float>? {
    guard let branchGate else { return nil }
    let (columns, hidden) = (branchGate.expertCount, configuration.hiddenSize)
    let chosen = configuration.expertsPerToken
    let gradients = unsafe try workspace.backward.gateGradients.reserve(tokenCount * columns, of: Float.self)
    let products = unsafe try workspace.backward.products.reserve(
      tokenCount * max(chosen, 1), of: Float.self)
    let identity = unsafe try workspace.backward.identity.reserve(tokenCount, of: Int32.self)
    for token in 0..<tokenCount { unsafe identity[token] = Int32(token) }
    unsafe Kernels.combineBackward(
      output, rows: try workspace.dense.rows.reserve(tokenCount * hidden, of: Float.self),
      choiceRow: identity, tokenCount: tokenCount, expertsPerToken: 1, hiddenSize: hidden, into: products,
      execution: execution)
    let ids = unsafe try workspace.routing.branchIDs.reserve(tokenCount * columns, of: Int32.self)
    for token in 0..<tokenCount {
      for choice in 0..<columns where unsafe Int(ids[token * columns + choice]) == columns - 1 {
        unsafe gradients[token * columns + choice] = products[token]
      }
    }
    guard columns == 2 else { return unsafe UnsafePointer(gradients) }
    unsafe Kernels.combineBackward(
      output, rows: forwardRows, choiceRow: choiceRow, tokenCount: tokenCount, expertsPerToken: chosen,
      hiddenSize: hidden, into: products, execution: execution)
    for token in 0..<tokenCount {
      var sum: Float = 0
      for choice in token * chosen..<(token + 1) * chosen {
        sum += unsafe products[choice] * (weights.map { unsafe $0[choice] } ?? 1)
      }
      for choice in 0..<columns where unsafe ids[token * columns + choice] == 0 {
        unsafe gradients[token * columns + choice] = sum
      }
    }
    return unsafe UnsafePointer(gradients)
  }

  /// Back through the branch's network: dL/dinput of its rows [T, D], nil where there is no branch.
  private func branchBackward(
    _ output: UnsafePointer<Float>, gates: BranchGates?, tokenCount: Int, gradients: NetworkGradients?,
    execution: Execution, workspace: inout Workspace
  ) throws(MoEError) -> UnsafePointer<Float>? {
    guard let branch, let gradients else { return nil }
    var factors: UnsafePointer<Float>?
    if let gates = unsafe gates {
      let values = unsafe try workspace.backward.branchFactors.reserve(tokenCount, of: Float.self)
      for token in 0..<tokenCount { unsafe values[token] = gates.branch(token) }
      unsafe factors = UnsafePointer(values)
    }
    return unsafe UnsafePointer(
      try Kernels.networkBackward(
        branch, output: output, order: nil, rowWeights: factors,
        offsets: try workspace.routing.branchOffsets.reserve(2, of: Int64.self), rowCount: tokenCount,
        gradients: gradients, execution: execution, forward: &workspace.dense,
        backward: &workspace.backward.dense, scratch: &workspace.kernel))
  }
}
