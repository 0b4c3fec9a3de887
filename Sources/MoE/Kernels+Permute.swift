internal import CKernels
internal import MoECore

extension Kernels {
  /// Orders the workspace's choices by expert: writes `offsets` [E+1], `rowToken` and `rowWeight` [M],
  /// `choiceRow` and `slots` [T, K] and `dropped` [E], and zeroes the weights of dropped choices.
  ///
  /// - Returns: M, the rows kept.
  static func permute(
    tokenCount: Int, expertCount: Int, expertsPerToken: Int, capacity: Int?,
    priority: RoutingPolicy.Capacity.Priority, scope: Int, execution: Execution, workspace: inout Workspace
  ) throws(MoEError) -> Int {
    let choices = tokenCount * expertsPerToken
    var output = unsafe moe_permutation()
    unsafe output.offsets = try workspace.routing.offsets.reserve(expertCount + 1, of: Int64.self)
    unsafe output.row_token = try workspace.routing.rowToken.reserve(choices, of: Int32.self)
    unsafe output.row_weight = try workspace.routing.rowWeight.reserve(choices, of: Float.self)
    unsafe output.choice_row = try workspace.routing.choiceRow.reserve(choices, of: Int32.self)
    unsafe output.slots = try workspace.slots.reserve(choices, of: Int32.self)
    unsafe output.dropped = try workspace.dropped.reserve(expertCount, of: Int64.self)
    let scopeTokens = max(scope, 1)
    let bytes = moe_permute_scratch_bytes(
      Int64(tokenCount), Int64(expertsPerToken), Int64(expertCount), Int64(scopeTokens))
    let cPriority =
      switch priority {
      case .tokenThenChoice: MOE_TOKEN_THEN_CHOICE
      case .choiceThenToken: MOE_CHOICE_THEN_TOKEN
      case .weight: MOE_BY_WEIGHT
      }
    let rule = moe_capacity_rule(
      capacity: Int64(capacity ?? -1), priority: cPriority, scope: Int64(scopeTokens))
    return unsafe Int(
      moe_permute(
        execution.cValue, try workspace.routing.expertIDs.reserve(choices, of: Int32.self),
        try workspace.routing.expertWeights.reserve(choices, of: Float.self), Int64(tokenCount),
        Int64(expertsPerToken), Int64(expertCount), rule, &output, try workspace.kernel.reserve(bytes: bytes))
    )
  }

  /// Gathers rows of `tokens` [·, D] into `rowTiles`; nil order is the identity.
  static func gatherRows(
    _ tokens: UnsafePointer<Float>, order: UnsafePointer<Int32>?, weights: UnsafePointer<Float>?,
    offsets: UnsafePointer<Int64>, rowCount: Int, experts: PackedExperts, execution: Execution,
    tiles: inout TileScratch
  ) throws(MoEError) {
    let bytes = moe_rows_bytes(
      execution.instructionSet.cValue, experts.precision.cValue, Int64(rowCount), Int64(experts.expertCount),
      Int64(experts.hiddenSize))
    unsafe moe_gather_rows(
      execution.cValue, experts.precision.cValue,
      moe_groups(E: Int64(experts.expertCount), offsets: offsets), tokens, Int64(experts.hiddenSize), order,
      weights, try tiles.rowTiles.reserve(bytes: bytes))
  }
}
