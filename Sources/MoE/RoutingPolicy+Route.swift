public import MoECore

extension RoutingPolicy {
  /// Applies the policy to logits `[T, E]` alone: routes, counts, drops; computes no expert.
  ///
  /// - Parameters:
  ///   - logits: `[T, E]`; −∞ rules an expert out.
  ///   - expertsPerToken: K.
  ///   - selectionBias: `[E]`, added to the scores for selection only.
  ///   - mask: one value a token, false for padding.
  ///   - sequenceLength: tokens of a sequence, for capacities per sequence; nil for one sequence.
  ///   - noise: of a training pass; logits have no input that could be jittered.
  ///   - execution: nil for ``Execution/automatic()``.
  /// - Throws: `MoEError.invalidConfiguration` for a policy these logits cannot follow, and
  ///   `MoEError.notFinite` for a token with a NaN or +∞ logit, or all −∞.
  public func route(
    logits: Matrix, expertsPerToken: Int, selectionBias: [Float]? = nil, mask: [Bool]? = nil,
    sequenceLength: Int? = nil, noise: RouterNoise? = nil, execution: Execution? = nil
  ) throws(MoEError) -> RoutingRecord {
    let execution = if let execution { execution } else { try Execution.automatic() }
    let expertCount = logits.columns
    try validate(expertCount: expertCount, expertsPerToken: expertsPerToken)
    try check([selectionBias?.count ?? expertCount], [expertCount], "the selection bias")
    try check([mask?.count ?? logits.rows], [logits.rows], "the token mask")
    try noise?.validate()
    var workspace = Workspace()
    workspace.routing.noise = noise
    let bias =
      if let selectionBias { try Memory(selectionBias, paddedTo: expertCount) } else { nil as Memory? }
    unsafe try logits.withUnsafeBufferPointer { elements throws(MoEError) in
      unsafe try Kernels.route(
        .logits(elements.baseAddress!), tokenCount: logits.rows, expertCount: expertCount,
        expertsPerToken: expertsPerToken, policy: self, selectionBias: bias, mask: mask,
        execution: execution, workspace: &workspace)
    }
    let dispatch = Dispatch(
      self, expertCount: expertCount, expertsPerToken: expertsPerToken, tokenCount: logits.rows,
      sequenceLength: sequenceLength ?? logits.rows)
    _ = try Kernels.permute(
      tokenCount: logits.rows, expertCount: expertCount, expertsPerToken: expertsPerToken,
      capacity: dispatch.capacity, priority: dispatch.priority, scope: dispatch.scope, execution: execution,
      workspace: &workspace)
    var record = RoutingRecord()
    try record.update(
      from: &workspace, tokenCount: logits.rows, expertCount: expertCount, expertsPerToken: expertsPerToken,
      mask: mask, capacity: dispatch.capacity, loadBalance: loadBalance)
    return record
  }
}
