internal import CKernels
internal import MoECore

extension Kernels {
  /// Routes T tokens by the policy's assignment: tokens choose, or experts, a plan or a table.
  ///
  /// - Parameters:
  ///   - mask: one value per token, false for padding.
  ///   - given: `[T, K]`: the experts of tokens that choose by their id.
  ///   - capacity: the number of tokens that an expert chooses.
  ///   - isRecorded: whether logits are kept for a backward pass.
  static func assign(
    _ input: RouterInput, mask: [Bool]?, given: [Int32]? = nil, _ capacity: CapacityInForce,
    isRecorded: Bool, execution: Execution, results: inout RouterScratch, scratch: inout CallScratch
  ) throws(MoEError) -> Routes {
    let (policy, isTraining) = (input.policy, input.noise != nil)
    // A plan and an auction decide in training only.
    let tokensChoose =
      switch policy.assignment {
      case .tokenChoice, .soft: true
      case .sinkhorn, .balanced: !isTraining
      case .expertChoice, .hash: false
      }
    if tokensChoose {
      return try route(
        input, mask: mask, isRecorded: isRecorded, execution: execution, results: &results, scratch: &scratch)
    }
    let routes = try route(
      input, mask: mask, isRecorded: true, needsScores: true, execution: execution, results: &results,
      scratch: &scratch)
    if case .expertChoice(let form) = policy.assignment {
      return try chooseTokens(
        routes, form, mask: mask, capacity, execution: execution, results: &results, scratch: &scratch)
    }
    let ids = try scratch.assignment.reserve(routes.choices.expertIDs.count, of: Int32.self)
    try plan(routes.choices, policy: policy, given: given, into: ids, mask: mask, scratch: &scratch)
    return try route(
      RouterInput(
        routes.choices.logits!, choosing: ids, expertsPerToken: input.expertsPerToken,
        policy: policy.ofSeenLogits, noise: input.noise), mask: mask, isRecorded: true, execution: execution,
      results: &results, scratch: &scratch)
  }

  /// Writes the experts `[T, K]` of a plan, an auction or a table.
  private static func plan(
    _ choices: RouterChoices, policy: RoutingPolicy, given: [Int32]?, into ids: MemoryView<Int32>,
    mask: [Bool]?, scratch: inout CallScratch
  ) throws(MoEError) {
    let (tokens, experts) = (Int64(choices.tokenCount), Int64(choices.expertCount))
    let maskBytes = try bytes(of: mask, in: &scratch)
    switch policy.assignment {
    case .sinkhorn:
      let kernel = try scratch.kernel.reserve(bytes: moe_sinkhorn_scratch_bytes(tokens, experts))
      _ = unsafe moe_sinkhorn(
        choices.logits!.base, maskBytes?.base, tokens, experts, Int64(choices.expertsPerToken), ids.base,
        kernel.base)
    case .balanced:
      let kernel = try scratch.kernel.reserve(bytes: moe_balanced_scratch_bytes(tokens, experts))
      unsafe moe_balanced(choices.logits!.base, maskBytes?.base, tokens, experts, ids.base, kernel.base)
    case .hash, .tokenChoice, .expertChoice, .soft:
      ids.update(from: given ?? Array(repeating: -1, count: ids.count))
    }
  }

  /// Lets each expert choose its tokens.
  private static func chooseTokens(
    _ routes: Routes, _ form: RoutingPolicy.ExpertChoice, mask: [Bool]?, _ capacity: CapacityInForce,
    execution: Execution, results: inout RouterScratch, scratch: inout CallScratch
  ) throws(MoEError) -> Routes {
    let (tokenCount, expertCount) = (routes.choices.tokenCount, routes.choices.expertCount)
    let maskBytes = try bytes(of: mask, in: &scratch)
    let scope = max(min(capacity.scope, tokenCount), 1)
    let rule = unsafe moe_capacity_rule(
      capacity: Int64(min(capacity.capacity ?? scope, scope)), priority: MOE_TOKEN_THEN_CHOICE,
      scope: Int64(scope), keys: nil)
    let logits = routes.choices.logits!
    let scores = try results.scores.reserve(tokenCount * expertCount, of: Float.self)
    if form == .softmaxOverTokens {
      unsafe moe_softmax_over_tokens(
        execution.cValue, logits.base, maskBytes?.base, Int64(tokenCount), Int64(expertCount), rule.scope,
        scores.base)
    }
    let count = tokenCount * expertCount
    let ids = try results.expertIDs.reserve(count, of: Int32.self)
    let weights = try results.weights.reserve(count, of: Float.self)
    let slots = try results.slots.reserve(count, of: Int32.self)
    var output = unsafe moe_expert_choices(
      expert_ids: ids.base, weights: weights.base, slots: slots.base, counts: routes.sums.base)
    let kernel = unsafe try scratch.kernel.reserve(
      bytes: moe_expert_choice_scratch_bytes(Int64(tokenCount), Int64(expertCount), rule))
    unsafe moe_expert_choice(
      execution.cValue, scores.base, maskBytes?.base, Int64(tokenCount), Int64(expertCount), rule,
      form == .softmaxOverTokens, &output, kernel.base)
    let choices = RouterChoices(
      tokenCount: tokenCount, expertCount: expertCount, expertsPerToken: expertCount, expertIDs: ids,
      weights: weights, gates: nil, slots: slots, logits: logits, noise: routes.choices.noise)
    return Routes(
      choices: choices, margins: routes.margins, logSumExp: routes.logSumExp, sums: routes.sums)
  }

  /// Returns a mask as the kernels read it; nil for no mask.
  private static func bytes(
    of mask: [Bool]?, in scratch: inout CallScratch
  ) throws(MoEError) -> MemoryView<UInt8>? {
    guard let mask else { return nil }
    let bytes = try scratch.mask.reserve(mask.count, of: UInt8.self)
    for (token, isRouted) in mask.enumerated() { bytes[token] = isRouted ? 1 : 0 }
    return bytes
  }
}

extension RoutingPolicy {
  /// The policy for logits that were scaled and got their noise already.
  fileprivate var ofSeenLogits: RoutingPolicy {
    var policy = self
    policy.logitScale = 1
    policy.noise = .none
    return policy
  }
}
