internal import MoE
internal import MoECore

/// The stages of a forward pass, and the parts of them that a backward pass repeats.
extension ExpertParallelLayer {
  /// The routes of this rank's tokens, or a token that cannot be routed.
  enum LocalRoutes {
    case routed(Routes, gates: BranchGates?)
    case unroutable(UnroutableToken)

    var unroutable: UnroutableToken? { if case .unroutable(let token) = self { token } else { nil } }
  }

  /// Routes this rank's tokens and computes the gates of the dense branch.
  ///
  /// Returns a token that cannot be routed, so that all ranks are told before anything is thrown.
  func route(
    _ tokens: LocalTokens, noise: RouterNoise?, isRecorded: Bool, execution: Execution,
    workspace: inout ExpertParallelWorkspace
  ) throws(MoEError) -> LocalRoutes {
    let routes: Routes
    do {
      routes = try localLayer.route(
        tokens.values, mask: tokens.mask, noise: noise,
        CapacityInForce(
          configuration.routing, expertCount: configuration.expertCount,
          expertsPerToken: configuration.expertsPerToken, tokenCount: tokens.count,
          sequenceLength: tokens.sequenceLength), isRecorded: isRecorded, execution: execution,
        workspace: &workspace.local)
    } catch {
      guard case .notFinite(_, let token) = error else { throw error }
      return .unroutable(.logit(token))
    }
    do {
      let gates = try localLayer.gateBranch(
        tokens.values, isRecorded: isRecorded, execution: execution, workspace: &workspace.local)
      return .routed(routes, gates: gates)
    } catch {
      guard case .notFinite(_, let token) = error else { throw error }
      return .unroutable(.gate(token))
    }
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

  /// Returns the number of slices that this rank proposes for a pass.
  private func proposedSlices(tokens: Int) -> Int {
    switch exchange.overlap {
    case .slices(let count): count
    case .automatic:
      communicator.size > 1 && communicator.transfersBesideComputation
        ? meter.proposal(tokens: tokens) : 1
    }
  }

  /// Gives each choice of this rank its place among the rows of its expert over all ranks, or drops it. A collective.
  ///
  /// The weights of the dropped choices become 0. Under a policy that normalises after dropping, the others are
  /// normalised.
  func order(
    _ choices: RouterChoices, in scopes: CapacityScopes, during activity: String, execution: Execution,
    workspace: inout ExpertParallelWorkspace
  ) throws -> GlobalOrder {
    let policy = configuration.routing
    let keys = try Kernels.keys(
      of: choices, isLimited: scopes.drops, policy: policy, execution: execution,
      scratch: &workspace.local.call.keys)
    let order = unsafe try GlobalOrder(
      expertIDs: choices.expertIDs.buffer, keys: keys?.buffer, scopes: scopes,
      priority: policy.capacity?.priority ?? .tokenThenChoice,
      claimsUntaken: policy.choice.second.isDecidedLater, expertCount: configuration.expertCount,
      expertsPerToken: configuration.expertsPerToken, over: communicator, during: activity)
    for (choice, expert) in order.experts.enumerated() where expert < 0 { choices.weights[choice] = 0 }
    if policy.normalizationTime == .afterDropping {
      Kernels.normalizeKept(
        choices, rows: try MemoryView(copying: order.slots), rowWeight: nil, policy: policy,
        execution: execution)
    }
    return order
  }

  /// Plans the rows that each rank sends to each other rank. A collective.
  func plan(
    _ order: GlobalOrder, _ choices: RouterChoices, slices: Int, during activity: String
  ) throws(CommunicationError) -> DispatchPlan {
    unsafe try DispatchPlan(
      order, at: ExpertRows(placement, rowsByRank: order.rowsByRank, slices: slices),
      expertsPerToken: configuration.expertsPerToken, returned: exchange.returned,
      isHierarchical: isHierarchical,
      weights: localLayer.weighsInput || exchange.returned == .partialSums
        ? UnsafePointer(choices.weights.base) : nil,
      over: communicator, during: activity)
  }

  /// Returns the row of each of this rank's choices among the rows that come back.
  func choiceRows(
    _ order: GlobalOrder, _ plan: DispatchPlan, capacity: Int?, workspace: inout ExpertParallelWorkspace
  ) throws(MoEError) -> ChoiceRows {
    func copied<Element: BitwiseCopyable>(
      _ values: [Element], in scratch: inout Scratch
    ) throws(MoEError) -> MemoryView<Element> {
      let view = try scratch.reserve(values.count, of: Element.self)
      view.update(from: values)
      return view
    }
    return ChoiceRows(
      rows: try copied(plan.choiceRow, in: &workspace.local.routing.order.choiceRow),
      slots: try copied(order.slots, in: &workspace.local.routing.order.slots),
      dropped: try copied(order.dropped, in: &workspace.local.routing.order.dropped),
      rowCount: plan.returnedRowCount, capacity: capacity)
  }

  private var isHierarchical: Bool {
    switch exchange.route {
    case .automatic: HostRoute.isOfUse(hosts: communicator.group.hosts)
    case .direct: false
    case .hierarchical: true
    }
  }

  /// Returns the index of the scratch for a slice's activations.
  ///
  /// All slices share one if neither a backward pass nor a sum reads them after the slice.
  func tile(ofSlice index: Int, isRecorded: Bool) -> Int {
    isRecorded || exchange.returned == .partialSums ? index : 0
  }

  /// Applies this rank's experts to the rows of one slice.
  ///
  /// - Parameters:
  ///   - tokens: `[received tokens, D]`.
  ///   - slice: the rows.
  ///   - tile: the index of the scratch for its activations.
  ///   - isRecorded: whether the activations are kept for a backward pass.
  ///   - needsRows: whether the second product is computed.
  ///   - execution: the threads.
  ///   - workspace: scratch.
  func applyExperts(
    _ tokens: MemoryView<Float>, _ slice: SliceRows, tile: Int, isRecorded: Bool, needsRows: Bool = true,
    execution: Execution, workspace: inout ExpertParallelWorkspace
  ) throws(MoEError) -> NetworkTiles {
    try localLayer.experts.forward(
      tokens, slice.groups, weights: slice.weights, isRecorded: isRecorded, needsRows: needsRows,
      execution: execution, tiles: &workspace.tiles[tile], scratch: &workspace.local.call)
  }
}
