public import MoECore

extension MoELayer {
  /// Applies the layer and records what ``backward(_:input:recording:losses:into:gradients:execution:)`` needs.
  ///
  /// - Parameters:
  ///   - input: the activations.
  ///   - mask: one value a token, false for padding.
  ///   - noise: of the router in training; nil routes as at evaluation.
  ///   - recording: overwritten.
  ///   - output: activations of the input's shape, overwritten.
  ///   - execution: nil for ``Execution/automatic()``; the backward pass has to use the same instruction set.
  /// - Throws: as ``callAsFunction(_:mask:execution:)``, and `MoEError.unsupported` for a layer in another
  ///   precision than fp32.
  public func forward(
    _ input: Activations, mask: [Bool]? = nil, noise: RouterNoise? = nil, recording: inout Recording,
    into output: inout Activations, execution: Execution? = nil
  ) throws(MoEError) {
    let execution = if let execution { execution } else { try Execution.automatic() }
    guard experts.precision == .float32 else {
      throw .unsupported("a pass is recorded in f32, and the layer is in \(experts.precision)")
    }
    try validate(input, mask: mask, output: output)
    try noise?.validate()
    recording.isRecorded = false
    recording.workspace.noise = noise
    try run(
      input, mask: mask, isRecorded: true, into: &output, record: &recording.record,
      workspace: &recording.workspace, execution: execution)
    recording.isRecorded = true
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
  ///   - execution: as of the forward pass.
  /// - Throws: `MoEError.shapeMismatch`, and `MoEError.invalidConfiguration` for a
  ///   recording without a pass.
  public func backward(
    _ outputGradient: Activations, input: Activations, recording: inout Recording,
    losses: RouterLossGradients = RouterLossGradients(), into inputGradient: inout Activations,
    gradients: MoEGradients, execution: Execution? = nil
  ) throws(MoEError) {
    let execution = if let execution { execution } else { try Execution.automatic() }
    guard recording.isRecorded, recording.record.tokenCount == input.tokenCount else {
      throw .invalidConfiguration("the recording holds no pass over \(input.tokenCount) tokens")
    }
    try validate(input, mask: nil, output: inputGradient)
    try check(outputGradient.shape, input.shape, "the output gradient")
    try losses.validate(tokenCount: input.tokenCount, expertCount: configuration.expertCount)
    recording.isRecorded = false
    unsafe try input.tokens.withUnsafeBufferPointer { tokens throws(MoEError) in
      unsafe try outputGradient.tokens.withUnsafeBufferPointer { output throws(MoEError) in
        unsafe try inputGradient.tokens.withUnsafeMutableBufferPointer { result throws(MoEError) in
          unsafe try backward(
            output.baseAddress!, tokens: tokens.baseAddress!, tokenCount: input.tokenCount,
            recording: &recording, losses: losses, into: result.baseAddress!, gradients: gradients,
            execution: execution)
        }
      }
    }
  }

  /// 1. Gates of the dense branch: what its output and the experts' sum were multiplied by.
  /// 2. Combine: gradients of the experts' weights.
  /// 3. Experts: gradients of their parameters and of the rows they took in.
  /// 4. Gather: each token adds up the gradients of its rows, and of the dense branch.
  /// 5. Router and gate: gradients of their parameters, and what they add to the tokens.
  private func backward(
    _ output: UnsafePointer<Float>, tokens: UnsafePointer<Float>, tokenCount: Int,
    recording: inout Recording, losses: RouterLossGradients, into inputGradient: UnsafeMutablePointer<Float>,
    gradients: MoEGradients, execution: Execution
  ) throws(MoEError) {
    let (hidden, chosen) = (configuration.hiddenSize, configuration.expertsPerToken)
    let choices = tokenCount * chosen
    let weighsInput = configuration.routing.weightPlacement == .input
    let offsets = unsafe UnsafePointer(
      try recording.workspace.offsets.reserve(configuration.expertCount + 1, of: Int64.self))
    let rowCount = unsafe Int(offsets[configuration.expertCount])
    let choiceRow = unsafe UnsafePointer(try recording.workspace.choiceRow.reserve(choices, of: Int32.self))
    let weights = unsafe UnsafePointer(try recording.workspace.expertWeights.reserve(choices, of: Float.self))
    let weightGradients = unsafe try recording.backward.weightGradients.reserve(choices, of: Float.self)
    let gates = unsafe try branchGates(tokenCount: tokenCount, recording: &recording)

    let forwardRows = unsafe try recording.workspace.experts.rows.reserve(rowCount * hidden, of: Float.self)
    if !weighsInput {
      unsafe Kernels.combineBackward(
        output, rows: forwardRows, choiceRow: choiceRow, tokenCount: tokenCount, expertsPerToken: chosen,
        hiddenSize: hidden, into: weightGradients, execution: execution)
    }
    let gateGradients = unsafe try branchGateGradients(
      output, forwardRows: forwardRows, tokenCount: tokenCount, weights: weighsInput ? nil : weights,
      choiceRow: choiceRow, recording: &recording, execution: execution)

    // A row's output was multiplied by its weight, unless its input was, and by the gate's first column.
    let rowWeights = unsafe try recording.backward.rowWeights.reserve(rowCount, of: Float.self)
    for choice in 0..<choices where unsafe choiceRow[choice] >= 0 {
      let gate = unsafe gates.map { unsafe $0.experts(choice / chosen) } ?? 1
      unsafe rowWeights[Int(choiceRow[choice])] = weighsInput ? gate : weights[choice] * gate
      if !weighsInput { unsafe weightGradients[choice] *= gate }
    }
    let rowToken = unsafe try recording.workspace.rowToken.reserve(rowCount, of: Int32.self)
    let rows = unsafe try Kernels.networkBackward(
      experts, output: output, order: rowToken, rowWeights: rowWeights, offsets: offsets, rowCount: rowCount,
      gradients: gradients.experts, execution: execution, forward: &recording.workspace.experts,
      backward: &recording.backward.experts, scratch: &recording.workspace.kernel)
    if weighsInput {
      unsafe Kernels.combineBackward(
        tokens, rows: rows, choiceRow: choiceRow, tokenCount: tokenCount, expertsPerToken: chosen,
        hiddenSize: hidden, into: weightGradients, execution: execution)
    }

    let branchRows = unsafe try branchBackward(
      output, gates: gates, tokenCount: tokenCount, recording: &recording, gradients: gradients.branch,
      execution: execution)
    unsafe Kernels.combine(
      rows, choiceRow: choiceRow, weights: weighsInput ? weights : nil, tokenCount: tokenCount,
      expertsPerToken: chosen, hiddenSize: hidden,
      branch: branchRows.map { unsafe Kernels.Branch(rows: $0, gates: nil, gateColumns: 0) },
      into: inputGradient, execution: execution)

    unsafe try Kernels.routerBackward(
      router, input: tokens, tokenCount: tokenCount,
      logits: try recording.workspace.logits.reserve(
        tokenCount * configuration.expertCount, of: Float.self),
      expertIDs: try recording.workspace.expertIDs.reserve(choices, of: Int32.self),
      weightGradients: weightGradients, losses: losses, noise: recording.workspace.noise,
      gradients: gradients.router,
      inputGradient: inputGradient, execution: execution, backward: &recording.backward,
      scratch: &recording.workspace.kernel)
    if let branchGate, let gateGradients = unsafe gateGradients, let sums = gradients.branchGate {
      unsafe try Kernels.routerBackward(
        branchGate, input: tokens, tokenCount: tokenCount,
        logits: try recording.workspace.branchLogits.reserve(0, of: Float.self),
        expertIDs: try recording.workspace.branchIDs.reserve(0, of: Int32.self),
        weightGradients: gateGradients, losses: RouterLossGradients(), gradients: sums,
        inputGradient: inputGradient, execution: execution, backward: &recording.backward,
        scratch: &recording.workspace.kernel)
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
  private func branchGates(tokenCount: Int, recording: inout Recording) throws(MoEError) -> BranchGates? {
    guard let branchGate else { return nil }
    let columns = branchGate.expertCount
    return unsafe BranchGates(
      values: try recording.workspace.branchGate.reserve(tokenCount * columns, of: Float.self),
      columns: columns)
  }

  /// dL/dgate of each token, in the order of the gate's own choices: the branch's output, and for two columns the
  /// experts' sum, times the output's gradient.
  private func branchGateGradients(
    _ output: UnsafePointer<Float>, forwardRows: UnsafePointer<Float>, tokenCount: Int,
    weights: UnsafePointer<Float>?, choiceRow: UnsafePointer<Int32>, recording: inout Recording,
    execution: Execution
  ) throws(MoEError) -> UnsafePointer<Float>? {
    guard let branchGate else { return nil }
    let (columns, hidden) = (branchGate.expertCount, configuration.hiddenSize)
    let chosen = configuration.expertsPerToken
    let gradients = unsafe try recording.backward.gateGradients.reserve(tokenCount * columns, of: Float.self)
    let products = unsafe try recording.backward.products.reserve(
      tokenCount * max(chosen, 1), of: Float.self)
    let identity = unsafe try recording.backward.identity.reserve(tokenCount, of: Int32.self)
    for token in 0..<tokenCount { unsafe identity[token] = Int32(token) }
    unsafe Kernels.combineBackward(
      output, rows: try recording.workspace.dense.rows.reserve(tokenCount * hidden, of: Float.self),
      choiceRow: identity, tokenCount: tokenCount, expertsPerToken: 1, hiddenSize: hidden, into: products,
      execution: execution)
    let ids = unsafe try recording.workspace.branchIDs.reserve(tokenCount * columns, of: Int32.self)
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
    _ output: UnsafePointer<Float>, gates: BranchGates?, tokenCount: Int, recording: inout Recording,
    gradients: NetworkGradients?, execution: Execution
  ) throws(MoEError) -> UnsafePointer<Float>? {
    guard let branch, let gradients else { return nil }
    var factors: UnsafePointer<Float>?
    if let gates = unsafe gates {
      let values = unsafe try recording.backward.branchFactors.reserve(tokenCount, of: Float.self)
      for token in 0..<tokenCount { unsafe values[token] = gates.branch(token) }
      unsafe factors = UnsafePointer(values)
    }
    return unsafe UnsafePointer(
      try Kernels.networkBackward(
        branch, output: output, order: nil, rowWeights: factors,
        offsets: try recording.workspace.branchOffsets.reserve(2, of: Int64.self), rowCount: tokenCount,
        gradients: gradients, execution: execution, forward: &recording.workspace.dense,
        backward: &recording.backward.dense, scratch: &recording.workspace.kernel))
  }
}
