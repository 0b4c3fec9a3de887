internal import MoE
internal import MoECore

/// The stages of a forward pass, and the parts of them that a backward pass repeats.
extension ExpertParallelLayer {
  /// Routes this rank's tokens and gates the dense branch.
  ///
  /// - Returns: a token that cannot be routed, to be told to all ranks before anything is thrown.
  func route(
    _ tokens: LocalTokens, isRecorded: Bool, execution: Execution, workspace: inout ExpertParallelWorkspace
  ) throws(MoEError) -> UnroutableToken? {
    do {
      unsafe try localLayer.route(
        tokens.values, tokenCount: tokens.count, mask: tokens.mask, isRecorded: isRecorded,
        execution: execution, workspace: &workspace.local)
    } catch {
      guard case .notFinite(_, let token) = error else { throw error }
      return .logit(token)
    }
    do {
      _ = unsafe try localLayer.branchGates(
        tokens.values, tokenCount: tokens.count, isRecorded: isRecorded, execution: execution,
        workspace: &workspace.local)
    } catch {
      guard case .notFinite(_, let token) = error else { throw error }
      return .gate(token)
    }
    return nil
  }

  /// The routes of tokens that were routed ahead of their pass.
  struct Routed {
    var tokenCount: Int
    var unroutable: UnroutableToken?
  }

  /// Gathers the headers of all ranks. A collective.
  func gatherBatch(
    _ tokens: LocalTokens, unroutable: UnroutableToken?, during activity: String
  ) throws -> Batch {
    let header = RankHeader(
      tokenCount: tokens.count, sequenceLength: tokens.sequenceLength, unroutable: unroutable,
      sliceCount: proposedSlices(tokens: tokens.count))
    let start = ContinuousClock.now
    let headers = try communicator.allGather([header], during: activity)
    meter.noteSmallExchange(start.duration(to: .now))
    return try Batch(headers, of: configuration)
  }

  /// The slices that this rank proposes for a pass.
  private func proposedSlices(tokens: Int) -> Int {
    switch exchange.overlap {
    case .slices(let count): count
    case .automatic:
      communicator.size > 1 && communicator.transfersBesideComputation
        ? meter.proposal(tokens: tokens) : 1
    }
  }

  /// Gives each choice of this rank its place among the rows of its expert over all ranks, or drops it. A collective.
  func order(
    _ tokens: LocalTokens, in scopes: CapacityScopes, during activity: String,
    workspace: inout ExpertParallelWorkspace
  ) throws -> GlobalOrder {
    let choices = tokens.count * configuration.expertsPerToken
    let ids = unsafe try workspace.local.routing.expertIDs.reserve(choices, of: Int32.self)
    let weights = unsafe try workspace.local.routing.expertWeights.reserve(choices, of: Float.self)
    let order = unsafe try GlobalOrder(
      expertIDs: UnsafeBufferPointer(start: ids, count: choices),
      weights: UnsafeBufferPointer(start: weights, count: choices), scopes: scopes,
      priority: configuration.routing.capacity?.priority ?? .tokenThenChoice,
      expertCount: configuration.expertCount, expertsPerToken: configuration.expertsPerToken,
      over: communicator, during: activity)
    try Self.copy(order.slots, to: &workspace.local.slots)
    try Self.copy(order.dropped, to: &workspace.local.dropped)
    return order
  }

  /// Plans who sends which rows to whom. A collective.
  func plan(
    _ order: GlobalOrder, slices: Int, during activity: String, workspace: inout ExpertParallelWorkspace
  ) throws -> DispatchPlan {
    let choices = order.experts.count
    let weights = unsafe try workspace.local.routing.expertWeights.reserve(choices, of: Float.self)
    let plan = unsafe try DispatchPlan(
      order, at: ExpertRows(placement, rowsByRank: order.rowsByRank, slices: slices),
      expertsPerToken: configuration.expertsPerToken, returned: exchange.returned,
      isHierarchical: isHierarchical,
      weights: weighsInput || exchange.returned == .partialSums ? UnsafePointer(weights) : nil,
      over: communicator, during: activity)
    for choice in 0..<choices where order.experts[choice] < 0 { unsafe weights[choice] = 0 }
    try Self.copy(plan.choiceRow, to: &workspace.local.routing.choiceRow)
    return plan
  }

  private var isHierarchical: Bool {
    switch exchange.route {
    case .automatic: HostRoute.isOfUse(hosts: communicator.group.hosts)
    case .direct: false
    case .hierarchical: true
    }
  }

  /// Whether a token is multiplied by a choice's weight before the expert.
  private var weighsInput: Bool { configuration.routing.weightPlacement == .input }

  /// Computes the dense branch on this rank's tokens.
  ///
  /// - Returns: the branch's rows and gates; nil for a layer without a dense branch.
  func branchRows(
    _ tokens: LocalTokens, isRecorded: Bool, execution: Execution, workspace: inout ExpertParallelWorkspace
  ) throws(MoEError) -> Kernels.Branch? {
    guard localLayer.branch != nil else { return nil }
    let rows = unsafe try localLayer.branchRows(
      tokens.values, tokenCount: tokens.count, isRecorded: isRecorded, execution: execution,
      workspace: &workspace.local)
    let columns = localLayer.branchGate?.expertCount ?? 0
    return unsafe Kernels.Branch(
      rows: rows,
      gates: columns == 0
        ? nil
        : UnsafePointer(
          try workspace.local.routing.branchGate.reserve(tokens.count * columns, of: Float.self)),
      gateColumns: columns)
  }

  /// The index of the scratch for a slice's activations.
  ///
  /// All slices share one if neither a backward pass nor a sum reads them after the slice.
  func tile(ofSlice index: Int, isRecorded: Bool) -> Int {
    isRecorded || exchange.returned == .partialSums ? index : 0
  }

  /// Computes this rank's experts on the rows of one slice.
  ///
  /// - Parameters:
  ///   - tokens: `[received tokens, D]`.
  ///   - slice: the slice of the plan.
  ///   - tile: the index of the scratch for its activations.
  ///   - isRecorded: whether the activations are kept for a backward pass.
  ///   - needsRows: whether the second product is computed.
  ///   - execution: the threads.
  ///   - workspace: scratch.
  /// - Returns: `[rows of the slice, D]`.
  func expertRows(
    _ tokens: UnsafePointer<Float>, of slice: DispatchPlan.Slice, tile: Int, isRecorded: Bool,
    needsRows: Bool = true, execution: Execution, workspace: inout ExpertParallelWorkspace
  ) throws(MoEError) -> UnsafePointer<Float> {
    unsafe try slice.weights.withUnsafeBufferPointer { weights throws(MoEError) in
      unsafe try Kernels.networkForward(
        localLayer.experts, tokens: tokens, order: slice.order,
        weights: weighsInput ? weights.baseAddress : nil, offsets: slice.offsets, rowCount: slice.rowCount,
        isRecorded: isRecorded, needsRows: needsRows, execution: execution, tiles: &workspace.tiles[tile],
        scratch: &workspace.local.kernel)
    }
  }

  private static func copy<Element: BitwiseCopyable>(
    _ values: [Element], to scratch: inout Scratch
  ) throws(MoEError) {
    let target = unsafe try scratch.reserve(values.count, of: Element.self)
    for (index, value) in values.enumerated() { unsafe target[index] = value }
  }
}
