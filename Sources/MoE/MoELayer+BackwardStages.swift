package import MoECore

/// The stages of a backward pass, of checked arguments: what a layer in one piece and one whose experts are spread over
/// ranks compute alike.
extension MoELayer {
  /// From dL/doutput [T, D] and the rows that were combined to dL/dweights and dL/dgates, which stay in the workspace,
  /// and what each row's output was multiplied by, `rowWeights` [M], which it returns.
  package func combineBackward(
    _ output: UnsafePointer<Float>, forwardRows: UnsafePointer<Float>, rowCount: Int, tokenCount: Int,
    execution: Execution, workspace: inout Workspace
  ) throws(MoEError) -> UnsafePointer<Float> {
    let (hidden, chosen) = (configuration.hiddenSize, configuration.expertsPerToken)
    let choices = tokenCount * chosen
    let weighsInput = configuration.routing.weightPlacement == .input
    let choiceRow = unsafe UnsafePointer(try workspace.routing.choiceRow.reserve(choices, of: Int32.self))
    let weights = unsafe UnsafePointer(try workspace.routing.expertWeights.reserve(choices, of: Float.self))
    let weightGradients = unsafe try workspace.backward.weightGradients.reserve(choices, of: Float.self)
    let gates = unsafe try branchGates(tokenCount: tokenCount, workspace: &workspace)
    if !weighsInput {
      unsafe Kernels.combineBackward(
        output, rows: forwardRows, choiceRow: choiceRow, tokenCount: tokenCount, expertsPerToken: chosen,
        hiddenSize: hidden, into: weightGradients, execution: execution)
    }
    unsafe try branchGateGradients(
      output, forwardRows: forwardRows, tokenCount: tokenCount, weights: weighsInput ? nil : weights,
      choiceRow: choiceRow, execution: execution, workspace: &workspace)

    // A row's output was multiplied by its weight, unless its input was, and by the gate's first column.
    let rowWeights = unsafe try workspace.backward.rowWeights.reserve(rowCount, of: Float.self)
    for choice in 0..<choices where unsafe choiceRow[choice] >= 0 {
      let gate = unsafe gates.map { unsafe $0.experts(choice / chosen) } ?? 1
      unsafe rowWeights[Int(choiceRow[choice])] = weighsInput ? gate : weights[choice] * gate
      if !weighsInput { unsafe weightGradients[choice] *= gate }
    }
    return unsafe UnsafePointer(rowWeights)
  }

  /// Each token's dL/dinput [T, D]: the gradients of its rows in slot order, and of the dense branch. Where weights
  /// multiply the experts' input, dL/dweights.
  package func gatherBackward(
    _ rows: UnsafePointer<Float>, tokens: UnsafePointer<Float>, branchRows: UnsafePointer<Float>?,
    tokenCount: Int, into inputGradient: UnsafeMutablePointer<Float>, execution: Execution,
    workspace: inout Workspace
  ) throws(MoEError) {
    let (hidden, chosen) = (configuration.hiddenSize, configuration.expertsPerToken)
    let choices = tokenCount * chosen
    let weighsInput = configuration.routing.weightPlacement == .input
    let choiceRow = unsafe UnsafePointer(try workspace.routing.choiceRow.reserve(choices, of: Int32.self))
    if weighsInput {
      unsafe Kernels.combineBackward(
        tokens, rows: rows, choiceRow: choiceRow, tokenCount: tokenCount, expertsPerToken: chosen,
        hiddenSize: hidden, into: try workspace.backward.weightGradients.reserve(choices, of: Float.self),
        execution: execution)
    }
    unsafe Kernels.combine(
      rows, choiceRow: choiceRow,
      weights: weighsInput ? try workspace.routing.expertWeights.reserve(choices, of: Float.self) : nil,
      tokenCount: tokenCount, expertsPerToken: chosen, hiddenSize: hidden,
      branch: branchRows.map { unsafe Kernels.Branch(rows: $0, gates: nil, gateColumns: 0) },
      into: inputGradient, execution: execution)
  }

  /// Back through the dense branch's network: dL/dinput of its rows [T, D], nil where there is no branch.
  package func branchBackward(
    _ output: UnsafePointer<Float>, tokenCount: Int, execution: Execution, workspace: inout Workspace
  ) throws(MoEError) -> UnsafePointer<Float>? {
    guard let branch else { return nil }
    var factors: UnsafePointer<Float>?
    if let gates = unsafe try branchGates(tokenCount: tokenCount, workspace: &workspace) {
      let values = unsafe try workspace.backward.branchFactors.reserve(tokenCount, of: Float.self)
      for token in 0..<tokenCount { unsafe values[token] = gates.branch(token) }
      unsafe factors = UnsafePointer(values)
    }
    return unsafe UnsafePointer(
      try Kernels.networkBackward(
        branch, output: output, order: nil, rowWeights: factors,
        offsets: try workspace.routing.branchOffsets.reserve(2, of: Int64.self), rowCount: tokenCount,
        execution: execution, forward: &workspace.dense, backward: &workspace.backward.dense,
        scratch: &workspace.kernel))
  }

  /// Back through the router and the branch's gate, from dL/dweights and dL/dgates to the tokens, to whose gradients
  /// [T, D] it adds.
  package func routersBackward(
    _ tokens: UnsafePointer<Float>, tokenCount: Int, losses: RouterLossGradients,
    into inputGradient: UnsafeMutablePointer<Float>, execution: Execution, workspace: inout Workspace
  ) throws(MoEError) {
    let choices = tokenCount * configuration.expertsPerToken
    unsafe try Kernels.routerBackward(
      router, input: tokens, tokenCount: tokenCount,
      logits: try workspace.routing.logits.reserve(
        tokenCount * configuration.expertCount, of: Float.self),
      expertIDs: try workspace.routing.expertIDs.reserve(choices, of: Int32.self),
      weightGradients: try workspace.backward.weightGradients.reserve(choices, of: Float.self),
      losses: losses, noise: workspace.routing.noise, inputGradient: inputGradient, execution: execution,
      tiles: &workspace.backward.router, copies: &workspace.backward.copies, scratch: &workspace.kernel)
    guard let branchGate else { return }
    let columns = branchGate.expertCount
    unsafe try Kernels.routerBackward(
      branchGate, input: tokens, tokenCount: tokenCount,
      logits: try workspace.routing.branchLogits.reserve(0, of: Float.self),
      expertIDs: try workspace.routing.branchIDs.reserve(0, of: Int32.self),
      weightGradients: try workspace.backward.gateGradients.reserve(tokenCount * columns, of: Float.self),
      losses: RouterLossGradients(), noise: nil, inputGradient: inputGradient, execution: execution,
      tiles: &workspace.backward.branchGate, copies: &workspace.backward.copies, scratch: &workspace.kernel)
  }

  /// Adds the gradients of the parameters that every token meets: of the router, the dense branch and its gate.
  ///
  /// Each is a chain of multiply-adds over the tokens that starts from what `gradients` holds.
  package func addSharedGradients(
    tokenCount: Int, to gradients: MoEGradients, execution: Execution, workspace: inout Workspace
  ) throws(MoEError) {
    try Kernels.routerGradients(
      gradients: gradients.router, hiddenSize: configuration.hiddenSize, execution: execution,
      tiles: &workspace.backward.router)
    if let branch, let sums = gradients.branch {
      unsafe try Kernels.networkGradients(
        branch, offsets: workspace.routing.branchOffsets.reserve(2, of: Int64.self), rowCount: tokenCount,
        gradients: sums, execution: execution, forward: &workspace.dense,
        backward: &workspace.backward.dense, scratch: &workspace.kernel)
    }
    if let sums = gradients.branchGate {
      try Kernels.routerGradients(
        gradients: sums, hiddenSize: configuration.hiddenSize, execution: execution,
        tiles: &workspace.backward.branchGate)
    }
  }
}

// MARK: - Gates of the dense branch

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
  ) throws(MoEError) {
    guard let branchGate else { return }
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
    guard columns == 2 else { return }
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
  }
}
