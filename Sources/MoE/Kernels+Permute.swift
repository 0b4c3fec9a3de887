internal import CKernels
internal import MoECore

extension RoutingPolicy.Capacity.Priority {
  fileprivate var cValue: moe_priority {
    switch self {
    case .tokenThenChoice: MOE_TOKEN_THEN_CHOICE
    case .choiceThenToken: MOE_CHOICE_THEN_TOKEN
    case .weight, .gate, .random: MOE_BY_KEY
    case .batchPrioritized: MOE_BATCH_PRIORITIZED
    case .nextChoice: MOE_NEXT_CHOICE
    }
  }

  /// Whether the order depends on the scores before they are normalised.
  var readsGates: Bool { self == .gate || self == .batchPrioritized }
}

extension RoutingPolicy {
  /// Returns the kernels' order; a second choice that is left out after dropping claims a row first.
  fileprivate func cPriority(_ priority: Capacity.Priority) -> moe_priority {
    choice.second.isDecidedLater ? MOE_TOKEN_THEN_ANY_CHOICE : priority.cValue
  }
}

extension Kernels {
  /// Orders the choices of T tokens by expert, and sets the weights of the choices that the capacity drops to 0. Under a
  /// policy that normalises after dropping, it normalises the weights of the others.
  static func permute(
    _ choices: RouterChoices, _ capacity: CapacityInForce, policy: RoutingPolicy, execution: Execution,
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
    let keys = try keys(
      of: choices, isLimited: capacity.capacity != nil, policy: policy, execution: execution,
      scratch: &scratch.keys)
    let rule = unsafe moe_capacity_rule(
      capacity: Int64(capacity.capacity ?? -1), priority: policy.cPriority(capacity.priority),
      scope: Int64(max(capacity.scope, 1)), keys: keys?.base)
    let kernel = try scratch.kernel.reserve(
      bytes: moe_permute_scratch_bytes(
        Int64(tokenCount), Int64(chosen), Int64(choices.expertCount), Int64(max(capacity.scope, 1))))
    let rowCount = unsafe Int(
      moe_permute(
        execution.cValue, choices.expertIDs.base, choices.weights.base, Int64(tokenCount), Int64(chosen),
        Int64(choices.expertCount), rule, &output, kernel.base))
    let rows = ChoiceRows(
      rows: choiceRow, slots: slots, dropped: dropped, rowCount: rowCount, capacity: capacity.capacity)
    if let own = choices.slots { slots.update(from: own) }
    normalizeKept(choices, rows: choiceRow, rowWeight: rowWeight, policy: policy, execution: execution)
    return RowOrder(
      groups: RowGroups(offsets: offsets, tokens: rowToken, rowCount: rowCount), weights: rowWeight,
      choices: rows)
  }

  /// Returns the keys `[T, K]` by which choices claim rows; nil if the order is that of tokens and choices.
  package static func keys(
    of choices: RouterChoices, isLimited: Bool, policy: RoutingPolicy, execution: Execution,
    scratch: inout Scratch
  ) throws(MoEError) -> MemoryView<Float>? {
    guard isLimited, let priority = policy.capacity?.priority else { return nil }
    switch priority {
    case .choiceThenToken, .tokenThenChoice, .nextChoice: return nil
    case .weight: return choices.weights
    case .gate, .batchPrioritized: return choices.gates
    case .random:
      let keys = try scratch.reserve(choices.tokenCount * choices.expertsPerToken, of: Float.self)
      var rule = policy.cRule(choices.noise, expertCount: choices.expertCount)
      unsafe moe_random_keys(
        execution.cValue, &rule, choices.expertIDs.base, Int64(choices.tokenCount),
        Int64(choices.expertsPerToken), Int64(choices.expertCount), keys.base)
      return keys
    }
  }

  /// Normalises the weights of the choices that have a row, under a policy that normalises after dropping.
  ///
  /// - Parameters:
  ///   - rows: `[T, K]`: the row or slot of each choice; −1 if it was dropped.
  ///   - rowWeight: `[M]`: the weights of the rows, which follow; nil if no row has a weight.
  package static func normalizeKept(
    _ choices: RouterChoices, rows: MemoryView<Int32>, rowWeight: MemoryView<Float>?, policy: RoutingPolicy,
    execution: Execution
  ) {
    guard policy.normalizationTime == .afterDropping else { return }
    var rule = policy.cRule(choices.noise, expertCount: choices.expertCount)
    unsafe moe_normalize_kept(
      execution.cValue, &rule, Int64(choices.tokenCount), Int64(choices.expertsPerToken), rows.base,
      choices.weights.base, rowWeight?.base)
  }
}
