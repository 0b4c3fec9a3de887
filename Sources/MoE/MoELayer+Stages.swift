package import MoECore

/// The stages of a forward pass, of checked arguments: what a layer in one piece and one whose experts are spread over
/// ranks compute alike.
extension MoELayer {
  /// Each token's experts and weights, as `Kernels.route` leaves them in the workspace.
  package func route(
    _ tokens: UnsafePointer<Float>, tokenCount: Int, mask: [Bool]?, isRecorded: Bool, execution: Execution,
    workspace: inout Workspace
  ) throws(MoEError) {
    unsafe try Kernels.route(
      .tokens(tokens, router), tokenCount: tokenCount, expertCount: configuration.expertCount,
      expertsPerToken: configuration.expertsPerToken, policy: configuration.routing,
      selectionBias: router.selectionBias, mask: mask, isRecorded: isRecorded, execution: execution,
      workspace: &workspace)
  }

  /// What the experts make of the rows that the permutation has ordered, [M, D].
  package func expertRows(
    _ tokens: UnsafePointer<Float>, rowCount: Int, isRecorded: Bool, needsRows: Bool = true,
    execution: Execution, workspace: inout Workspace
  ) throws(MoEError) -> UnsafePointer<Float> {
    let weighsInput = configuration.routing.weightPlacement == .input
    return unsafe try Kernels.networkForward(
      experts, tokens: tokens, order: workspace.routing.rowToken.reserve(rowCount, of: Int32.self),
      weights: weighsInput ? workspace.routing.rowWeight.reserve(rowCount, of: Float.self) : nil,
      offsets: workspace.routing.offsets.reserve(experts.expertCount + 1, of: Int64.self),
      rowCount: rowCount, isRecorded: isRecorded, needsRows: needsRows, execution: execution,
      tiles: &workspace.experts,
      scratch: &workspace.kernel)
  }

  /// What the dense branch makes of all tokens, [T, D]: one group whose rows are the tokens.
  ///
  /// - Precondition: the layer has a dense branch.
  package func branchRows(
    _ tokens: UnsafePointer<Float>, tokenCount: Int, isRecorded: Bool, needsRows: Bool = true,
    execution: Execution, workspace: inout Workspace
  ) throws(MoEError) -> UnsafePointer<Float> {
    let offsets = unsafe try workspace.routing.branchOffsets.reserve(2, of: Int64.self)
    unsafe offsets[0] = 0
    unsafe offsets[1] = Int64(tokenCount)
    return unsafe try Kernels.networkForward(
      branch!, tokens: tokens, order: nil, weights: nil, offsets: offsets, rowCount: tokenCount,
      isRecorded: isRecorded, needsRows: needsRows, execution: execution, tiles: &workspace.dense,
      scratch: &workspace.kernel)
  }

  /// The gates of the dense branch, [T, columns]; nil where it has none.
  package func branchGates(
    _ tokens: UnsafePointer<Float>, tokenCount: Int, isRecorded: Bool, execution: Execution,
    workspace: inout Workspace
  ) throws(MoEError) -> UnsafePointer<Float>? {
    guard let branchGate else { return nil }
    return unsafe try Kernels.routeBranchGate(
      tokens, tokenCount: tokenCount, gate: branchGate, isRecorded: isRecorded, execution: execution,
      workspace: &workspace)
  }

  /// Adds each token's rows of `rows` in slot order, times their weights unless that was done, and the branch.
  package func combine(
    _ rows: UnsafePointer<Float>, areWeighted: Bool = false, branch: Kernels.Branch?, tokenCount: Int,
    into output: UnsafeMutablePointer<Float>, execution: Execution, workspace: inout Workspace
  ) throws(MoEError) {
    let choices = tokenCount * configuration.expertsPerToken
    unsafe Kernels.combine(
      rows, choiceRow: try workspace.routing.choiceRow.reserve(choices, of: Int32.self),
      weights: areWeighted || configuration.routing.weightPlacement == .input
        ? nil : try workspace.routing.expertWeights.reserve(choices, of: Float.self),
      tokenCount: tokenCount, expertsPerToken: configuration.expertsPerToken,
      hiddenSize: configuration.hiddenSize, branch: branch, into: output, execution: execution)
  }

  /// What happened to the tokens, copied out of the workspace.
  package func updateRecord(
    _ record: inout RoutingRecord, tokenCount: Int, mask: [Bool]?, capacity: Int?,
    workspace: inout Workspace
  ) throws(MoEError) {
    try record.update(
      from: &workspace, tokenCount: tokenCount, expertCount: configuration.expertCount,
      expertsPerToken: configuration.expertsPerToken, mask: mask, capacity: capacity,
      loadBalance: configuration.routing.loadBalance)
  }
}
