public import MoECore

extension RoutingPolicy {
  /// Applies the policy to logits `[T, E]` alone: routes, counts and drops, but computes no expert.
  ///
  /// - Parameters:
  ///   - logits: `[T, E]`; −∞ excludes an expert.
  ///   - expertsPerToken: K.
  ///   - selectionBias: `[E]`, added to the scores for selection only.
  ///   - givenExperts: `[T, K]`, the experts of a policy whose tokens choose by their id (`Assignment.hash`); −1 for
  ///     none.
  ///   - mask: one value per token, false for padding.
  ///   - sequenceLength: the number of tokens per sequence, for capacities per sequence; nil for one sequence.
  ///   - noise: the random numbers of a training pass; nil at evaluation. Logits have no input, so noise on the input
  ///     does not apply.
  ///   - execution: nil for ``Execution/automatic()``.
  /// - Throws: `MoEError.invalidConfiguration` for a policy that does not fit these logits, and `MoEError.notFinite`
  ///   for a token with a NaN or +∞ logit, or all −∞.
  public func route(
    logits: Matrix, expertsPerToken: Int, selectionBias: [Float]? = nil, givenExperts: [Int32]? = nil,
    mask: [Bool]? = nil, sequenceLength: Int? = nil, noise: RouterNoise? = nil, execution: Execution? = nil
  ) throws(MoEError) -> RoutingRecord {
    let execution = if let execution { execution } else { try Execution.automatic() }
    let expertCount = logits.columns
    try validate(expertCount: expertCount, expertsPerToken: expertsPerToken)
    try check([selectionBias?.count ?? expertCount], [expertCount], "the selection bias")
    try check([mask?.count ?? logits.rows], [logits.rows], "the token mask")
    try checkGiven(givenExperts, tokenCount: logits.rows, expertCount: expertCount, k: expertsPerToken)
    let capacity = CapacityInForce(
      self, expertCount: expertCount, expertsPerToken: expertsPerToken, tokenCount: logits.rows,
      sequenceLength: sequenceLength ?? logits.rows)
    let bias =
      if let selectionBias { try Memory(selectionBias, paddedTo: expertCount) } else { nil as Memory? }
    let input = RouterInput(
      logits: logits, expertsPerToken: expertsPerToken, policy: self, selectionBias: bias, noise: noise)

    var workspace = Workspace()
    let routes = try Kernels.assign(
      input, mask: mask, given: givenExperts, capacity, isRecorded: false, execution: execution,
      results: &workspace.routing.router, scratch: &workspace.call)
    let order = try Kernels.permute(
      routes.choices, capacity, policy: self, execution: execution, results: &workspace.routing.order,
      scratch: &workspace.call)
    var record = RoutingRecord()
    record.update(from: routes, order.choices, mask: mask, loadBalance: loadBalance)
    return record
  }

  /// Checks the experts that a caller gives: needed by a policy that takes them, and by no other.
  private func checkGiven(_ given: [Int32]?, tokenCount: Int, expertCount: Int, k: Int) throws(MoEError) {
    guard let given else {
      if assignment == .hash {
        throw .invalidConfiguration("a policy that hashes token ids needs the experts of the tokens")
      }
      return
    }
    if assignment != .hash {
      throw .invalidConfiguration("experts are given, but the policy chooses them itself")
    }
    try check([given.count], [tokenCount * k], "the given experts")
    if let index = given.firstIndex(where: { !(-1..<Int32(expertCount)).contains($0) }) {
      throw .invalidConfiguration(
        "the given expert of token \(index / k) is \(given[index]), expected 0 to \(expertCount - 1), or −1 for none"
      )
    }
  }

  /// Computes the sums of each run of `groupSize` tokens from which losses are made.
  func statistics(
    _ input: RouterInput, mask: [Bool]?, groupSize: Int, execution: Execution
  ) throws(MoEError) -> RouterStatistics {
    var workspace = Workspace()
    let routes = try Kernels.route(
      input, mask: mask, isRecorded: true, execution: execution, results: &workspace.routing.router,
      scratch: &workspace.call)
    return try Kernels.statistics(
      of: routes.choices, by: .sequence(length: groupSize), policy: self, execution: execution,
      scratch: &workspace.call)
  }
}
