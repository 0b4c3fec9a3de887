internal import CKernels
internal import MoECore

extension RoutingPolicy.Capacity.Priority {
  fileprivate var cValue: moe_priority {
    switch self {
    case .tokenThenChoice: MOE_TOKEN_THEN_CHOICE
    case .choiceThenToken: MOE_CHOICE_THEN_TOKEN
    case .weight: MOE_BY_WEIGHT
    }
  }
}

extension Kernels {
  /// Orders the choices of T tokens by expert, and sets the weights of the choices that the capacity drops to 0.
  static func permute(
    _ choices: RouterChoices, _ capacity: CapacityInForce, execution: Execution,
    results: inout OrderScratch, scratch: inout CallScratch
  ) throws(MoEError) -> RowOrder {
    let (tokenCount, chosen) = (choices.tokenCount, choices.expertsPerToken)
    let offsets = try results.offsets.reserve(choices.expertCount + 1, of: Int64.self)
    let rowToken = try results.rowToken.reserve(tokenCount * chosen, of: Int32.self)
    let rowWeight = try results.rowWeight.reserve(tokenCount * chosen, of: Float.self)
    let choiceRow = try results.choiceRow.reserve(tokenCount * chosen, of: Int32.self)
    let slots = try results.slots.reserve(tokenCount * chosen, of: Int32.self)
    let dropped = try results.dropped.reserve(choices.expertCount, of: Int64.self)
    var output = unsafe moe_permutation(
      offsets: offsets.base, row_token: rowToken.base, row_weight: rowWeight.base, choice_row: choiceRow.base,
      slots: slots.base, dropped: dropped.base)
    let rule = moe_capacity_rule(
      capacity: Int64(capacity.capacity ?? -1), priority: capacity.priority.cValue,
      scope: Int64(max(capacity.scope, 1)))
    let kernel = try scratch.kernel.reserve(
      bytes: moe_permute_scratch_bytes(
        Int64(tokenCount), Int64(chosen), Int64(choices.expertCount), rule.scope))
    let rowCount = unsafe Int(
      moe_permute(
        execution.cValue, choices.expertIDs.base, choices.weights.base, Int64(tokenCount), Int64(chosen),
        Int64(choices.expertCount), rule, &output, kernel.base))
    return RowOrder(
      groups: RowGroups(offsets: offsets, tokens: rowToken, rowCount: rowCount), weights: rowWeight,
      choices: ChoiceRows(
        rows: choiceRow, slots: slots, dropped: dropped, rowCount: rowCount, capacity: capacity.capacity))
  }
}
