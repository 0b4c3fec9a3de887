package import MoECore

/// The stages of a forward pass. Their arguments are checked. A layer on one rank and a layer whose experts are spread
/// over ranks share them. Each stage takes the values that it reads, and writes to memory of the workspace that no
/// other stage writes.
extension MoELayer {
  /// Routes tokens [T, D]: chooses the experts and weights of each token.
  ///
  /// - Parameters:
  ///   - mask: one value per token, false for padding.
  ///   - noise: the router's noise in training; nil at evaluation.
  ///   - capacity: the number of tokens that an expert chooses, where experts choose.
  package func route(
    _ tokens: MemoryView<Float>, mask: [Bool]?, noise: RouterNoise?, _ capacity: CapacityInForce,
    isRecorded: Bool, execution: Execution, workspace: inout Workspace
  ) throws(MoEError) -> Routes {
    var seen = tokens
    let rule = configuration.routing.noise
    if let noise, rule.changesInput {
      seen = try workspace.call.jitteredTokens.reserve(tokens.count, of: Float.self)
      Kernels.jitter(
        tokens, hiddenSize: configuration.hiddenSize, rule, noise: noise, into: seen, adding: false,
        execution: execution)
    }
    return try Kernels.assign(
      RouterInput(seen, router, noise: noise), mask: mask, capacity, isRecorded: isRecorded,
      execution: execution, results: &workspace.routing.router, scratch: &workspace.call)
  }

  /// Orders the choices by expert, and drops those that exceed the capacity.
  func permute(
    _ routes: Routes, _ capacity: CapacityInForce, execution: Execution, workspace: inout Workspace
  ) throws(MoEError) -> RowOrder {
    try Kernels.permute(
      routes.choices, capacity, policy: configuration.routing, execution: execution,
      results: &workspace.routing.order, scratch: &workspace.call)
  }

  /// Applies the experts to their rows of tokens [T, D].
  ///
  /// - Parameter needsRows: false if the second product is not needed.
  func applyExperts(
    _ tokens: MemoryView<Float>, _ order: RowOrder, isRecorded: Bool, needsRows: Bool = true,
    execution: Execution, workspace: inout Workspace
  ) throws(MoEError) -> NetworkTiles {
    try experts.forward(
      tokens, order.groups, weights: weighsInput ? order.weights : nil, isRecorded: isRecorded,
      needsRows: needsRows, execution: execution, tiles: &workspace.experts, scratch: &workspace.call)
  }

  /// Applies the dense branch to all tokens [T, D]; returns nil without a branch.
  ///
  /// - Parameter needsRows: false if the second product is not needed.
  package func applyBranch(
    _ tokens: MemoryView<Float>, isRecorded: Bool, needsRows: Bool = true, execution: Execution,
    workspace: inout Workspace
  ) throws(MoEError) -> NetworkTiles? {
    guard let branch else { return nil }
    let all = try RowGroups(
      allOf: tokens.count / configuration.hiddenSize, in: &workspace.branch.offsets)
    return try branch.forward(
      tokens, all, weights: nil, isRecorded: isRecorded, needsRows: needsRows, execution: execution,
      tiles: &workspace.branch, scratch: &workspace.call)
  }

  /// Computes the gates of the dense branch from tokens [T, D]; returns nil if it has no gate.
  package func gateBranch(
    _ tokens: MemoryView<Float>, isRecorded: Bool, execution: Execution, workspace: inout Workspace
  ) throws(MoEError) -> BranchGates? {
    guard let branchGate else { return nil }
    return try Kernels.gate(
      RouterInput(tokens, branchGate, noise: nil), isRecorded: isRecorded, execution: execution,
      results: &workspace.routing.branchGate, scratch: &workspace.call)
  }

  /// Adds up each token's rows in slot order, times their weights, and adds the dense branch.
  ///
  /// - Parameters:
  ///   - rows: `[M, D]`.
  ///   - choices: the row of each choice in `rows`.
  ///   - areWeighted: whether the rows are already multiplied by their weights.
  ///   - output: `[T, D]`, overwritten.
  package func combine(
    _ rows: MemoryView<Float>, _ choices: ChoiceRows, _ routes: Routes, areWeighted: Bool = false,
    branch: NetworkTiles?, gates: BranchGates?, into output: MemoryView<Float>, execution: Execution
  ) {
    Kernels.combine(
      combination(
        of: rows, choices, routes, weights: areWeighted || weighsInput ? nil : routes.choices.weights),
      branch: branch?.rows, gates: gates, into: output, execution: execution)
  }

  /// Whether the weight of a choice multiplies the expert's input, not its output.
  package var weighsInput: Bool { configuration.routing.weightPlacement == .input }

  /// Returns each token's rows as combine and its backward pass read them.
  func combination(
    of rows: MemoryView<Float>, _ choices: ChoiceRows, _ routes: Routes, weights: MemoryView<Float>? = nil
  ) -> Combination {
    Combination(
      rows: rows, choiceRow: choices.rows, weights: weights, tokenCount: routes.choices.tokenCount,
      expertsPerToken: routes.choices.expertsPerToken, hiddenSize: configuration.hiddenSize)
  }
}
