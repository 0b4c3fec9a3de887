package import MoECore

/// The gradients that combine's backward pass computes, and the factors of the rows.
package struct CombineGradients {
  /// `[T, K]`: dL/dweights; nil if the weights multiplied the experts' input.
  package let weightGradients: MemoryView<Float>?
  /// `[T, columns]`: dL/dgates in the order of the gate's choices; nil without a gate.
  package let gateGradients: MemoryView<Float>?
  /// `[M]`: the factor that each row's output was multiplied by.
  package let rowWeights: MemoryView<Float>
}

/// The stages of a backward pass. Their arguments are checked. A layer on one rank and a layer whose experts are spread
/// over ranks share them.
extension MoELayer {
  /// Computes the backward pass of combine, from dL/doutput [T, D].
  ///
  /// - Parameters:
  ///   - rows: the rows `[M, D]` that were combined; read only if ``backwardReadsRows``.
  ///   - branch: the values of the dense branch's forward pass.
  package func combineBackward(
    _ output: MemoryView<Float>, rows: MemoryView<Float>?, _ choices: ChoiceRows, _ routes: Routes,
    branch: NetworkTiles?, gates: BranchGates?, execution: Execution, workspace: inout Workspace
  ) throws(MoEError) -> CombineGradients {
    let chosen = routes.choices.expertsPerToken
    let weights = weighsInput ? nil : routes.choices.weights
    var weightGradients: MemoryView<Float>?
    if weights != nil {
      let made = try workspace.backward.weightGradients.reserve(choices.rows.count, of: Float.self)
      Kernels.combineBackward(
        combination(of: rows!, choices, routes), gradient: output, into: made, execution: execution)
      weightGradients = made
    }
    let gateGradients: MemoryView<Float>? =
      if let branch, let gates {
        try gateBackward(
          output, rows: rows.map { combination(of: $0, choices, routes, weights: weights) },
          branch: branch, gates: gates, execution: execution, workspace: &workspace)
      } else { nil }

    // A row's output was multiplied by its weight, unless the weight multiplied its input, and by the gate's first
    // column.
    let rowWeights = try workspace.backward.rowWeights.reserve(choices.rowCount, of: Float.self)
    for choice in 0..<choices.rows.count where choices.rows[choice] >= 0 {
      let gate = gates?.ofExperts(choice / chosen) ?? 1
      rowWeights[Int(choices.rows[choice])] = weights.map { $0[choice] * gate } ?? gate
      if let weightGradients { weightGradients[choice] *= gate }
    }
    return CombineGradients(
      weightGradients: weightGradients, gateGradients: gateGradients, rowWeights: rowWeights)
  }

  /// Computes dL/dweights [T, K] for weights that multiplied the experts' input.
  ///
  /// - Parameter rows: the gradients `[M, D]` of the experts' input rows.
  package func inputWeightGradients(
    _ tokens: MemoryView<Float>, rows: MemoryView<Float>, _ choices: ChoiceRows, _ routes: Routes,
    execution: Execution, workspace: inout Workspace
  ) throws(MoEError) -> MemoryView<Float> {
    let gradients = try workspace.backward.weightGradients.reserve(choices.rows.count, of: Float.self)
    Kernels.combineBackward(
      combination(of: rows, choices, routes), gradient: tokens, into: gradients, execution: execution)
    return gradients
  }

  /// Adds up each token's gradients to dL/dinput [T, D]: those of its rows in slot order, then that of the dense
  /// branch.
  ///
  /// - Parameter rows: the gradients `[M, D]` of the experts' input rows.
  package func gatherBackward(
    _ rows: MemoryView<Float>, _ choices: ChoiceRows, _ routes: Routes, branch: NetworkGradientTiles?,
    into inputGradient: MemoryView<Float>, execution: Execution
  ) {
    Kernels.combine(
      combination(of: rows, choices, routes, weights: weighsInput ? routes.choices.weights : nil),
      branch: branch?.rows, gates: nil, into: inputGradient, execution: execution)
  }

  /// Computes the backward pass of the dense branch's network; returns nil without a branch.
  package func branchBackward(
    _ output: MemoryView<Float>, forward: NetworkTiles?, gates: BranchGates?, execution: Execution,
    workspace: inout Workspace
  ) throws(MoEError) -> NetworkGradientTiles? {
    guard let branch, let forward else { return nil }
    var factors: MemoryView<Float>?
    if let gates {
      let values = try workspace.backward.branchFactors.reserve(forward.groups.rowCount, of: Float.self)
      for token in 0..<forward.groups.rowCount { values[token] = gates.ofBranch(token) }
      factors = values
    }
    return try branch.backward(
      output, rowWeights: factors, forward: forward, execution: execution, tiles: &workspace.backward.branch,
      scratch: &workspace.call)
  }

  /// Computes the backward pass of the router and the branch's gate, and adds the gradients of the tokens to
  /// `inputGradient` [T, D].
  ///
  /// - Parameters:
  ///   - weightGradients: dL/dweights [T, K].
  ///   - gateGradients: dL/dgates [T, columns] in the order of the gate's choices.
  /// - Returns: the factors of the parameters' gradients.
  package func routersBackward(
    _ tokens: MemoryView<Float>, _ routes: Routes, _ choices: ChoiceRows, _ gates: BranchGates?,
    weightGradients: MemoryView<Float>, gateGradients: MemoryView<Float>?, losses: RouterLossGradients,
    into inputGradient: MemoryView<Float>, execution: Execution, workspace: inout Workspace
  ) throws(MoEError) -> (router: RouterGradientTiles, gate: RouterGradientTiles?) {
    let ofRouter = try router.backward(
      tokens, routes.choices, rows: choices, weightGradients: weightGradients, losses: losses,
      into: inputGradient,
      execution: execution, memory: &workspace.backward.router, scratch: &workspace.call)
    guard let branchGate, let gates, let gateGradients else { return (ofRouter, nil) }
    let ofGate = try branchGate.backward(
      tokens, gates.choices, rows: nil, weightGradients: gateGradients, losses: RouterLossGradients(),
      into: inputGradient, execution: execution, memory: &workspace.backward.branchGate,
      scratch: &workspace.call)
    return (ofRouter, ofGate)
  }

  /// Adds the gradients of the parameters that every token uses: those of the router, the dense branch and its gate.
  ///
  /// Each is a chain of multiply-adds over the tokens that starts from the sums in `gradients`.
  package func addSharedGradients(
    _ pass: SharedGradientTiles, to gradients: MoEGradients, execution: Execution, workspace: inout Workspace
  ) throws(MoEError) {
    try router.addGradients(
      of: pass.router, to: gradients.router, execution: execution, scratch: &workspace.call)
    if let branch, let ofBranch = pass.branch, let sums = gradients.branch {
      try branch.addGradients(of: ofBranch, to: sums, execution: execution, scratch: &workspace.call)
    }
    if let branchGate, let ofGate = pass.gate, let sums = gradients.branchGate {
      try branchGate.addGradients(of: ofGate, to: sums, execution: execution, scratch: &workspace.call)
    }
  }

  /// Computes dL/dgates [T, columns] in the order of the gate's own choices: dot products of the output's gradient with
  /// the branch's output and, for two columns, with the experts' sum.
  ///
  /// - Parameter rows: the rows that the experts' sum adds up; nil if no gate multiplies that sum.
  private func gateBackward(
    _ output: MemoryView<Float>, rows: Combination?, branch: NetworkTiles, gates: BranchGates,
    execution: Execution, workspace: inout Workspace
  ) throws(MoEError) -> MemoryView<Float> {
    let (columns, chosen) = (gates.columns, rows?.expertsPerToken ?? 1)
    let tokenCount = gates.choices.tokenCount
    let ids = gates.choices.expertIDs
    let gradients = try workspace.backward.gateGradients.reserve(tokenCount * columns, of: Float.self)
    let products = try workspace.backward.products.reserve(tokenCount * max(chosen, 1), of: Float.self)
    let identity = try workspace.backward.identity.reserve(tokenCount, of: Int32.self)
    for token in 0..<tokenCount { identity[token] = Int32(token) }
    Kernels.combineBackward(
      Combination(
        rows: branch.rows!, choiceRow: identity, tokenCount: tokenCount, expertsPerToken: 1,
        hiddenSize: configuration.hiddenSize),
      gradient: output, into: products, execution: execution)
    for token in 0..<tokenCount {
      for choice in 0..<columns where Int(ids[token * columns + choice]) == columns - 1 {
        gradients[token * columns + choice] = products[token]
      }
    }
    guard columns == 2, let rows else { return gradients }
    Kernels.combineBackward(rows, gradient: output, into: products, execution: execution)
    for token in 0..<tokenCount {
      var sum: Float = 0
      for choice in token * chosen..<(token + 1) * chosen {
        sum += products[choice] * (rows.weights.map { $0[choice] } ?? 1)
      }
      for choice in 0..<columns where ids[token * columns + choice] == 0 {
        gradients[token * columns + choice] = sum
      }
    }
    return gradients
  }
}
