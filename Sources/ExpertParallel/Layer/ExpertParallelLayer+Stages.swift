internal import MoE
internal import MoECore

/// The stages of a pass that involve other ranks.
extension ExpertParallelLayer {
  /// The routes of this rank's tokens.
  enum LocalRoutes {
    case routed(Routes, gates: BranchGates?)
    case unroutable(Unroutable)

    var unroutable: Unroutable? { if case .unroutable(let token) = self { token } else { nil } }
  }

  /// A token whose router's logit, or dense branch's gate, is NaN or infinite.
  struct Unroutable {
    var token: Int
    var isGate: Bool
  }

  /// Routes this rank's tokens and gates the dense branch.
  ///
  /// - Returns: the routes, or the token that has none: all ranks are told of it before anything is thrown.
  func route(
    _ tokens: MemoryView<Float>, mask: [Bool]?, noise: RouterNoise?, isRecorded: Bool, execution: Execution,
    workspace: inout ExpertParallelWorkspace
  ) throws(MoEError) -> LocalRoutes {
    let routes: Routes
    do {
      routes = try part.route(
        tokens, mask: mask, noise: noise, isRecorded: isRecorded, execution: execution,
        workspace: &workspace.local)
    } catch {
      guard case .notFinite(_, let token) = error else { throw error }
      return .unroutable(Unroutable(token: token, isGate: false))
    }
    do {
      let gates = try part.gateBranch(
        tokens, isRecorded: isRecorded, execution: execution, workspace: &workspace.local)
      return .routed(routes, gates: gates)
    } catch {
      guard case .notFinite(_, let token) = error else { throw error }
      return .unroutable(Unroutable(token: token, isGate: true))
    }
  }

  /// Gives each choice its place among its expert's rows over all ranks, or drops it, and arranges who sends what.
  func order(
    _ local: LocalRoutes, shape: (tokenCount: Int, sequenceLength: Int), step: String,
    workspace: inout ExpertParallelWorkspace
  ) throws -> SpreadOrder {
    let size = communicator.size
    let chosen = configuration.expertsPerToken
    let unroutable = local.unroutable
    let start = ContinuousClock.now
    let values = try communicator.allGather(
      [
        shape.tokenCount, shape.sequenceLength, unroutable.map { $0.isGate ? 2 : 1 } ?? 0,
        unroutable?.token ?? 0, proposedSlices(tokens: shape.tokenCount),
      ], step: step)
    meter.noteSmallExchange(start.duration(to: .now))
    let heads = (0..<size).map { values[5 * $0..<5 * $0 + 5] }.map(Array.init)
    var firstTokens = [0]
    for head in heads { firstTokens.append(firstTokens.last! + head[0]) }
    for (kind, what) in [(1, "the router logit"), (2, "the dense branch's gate logit")] {
      for (other, head) in heads.enumerated() where head[2] == kind {
        throw MoEError.notFinite(what: what, token: firstTokens[other] + head[3])
      }
    }
    if let wrong = heads.first(where: { $0[0] > 0 && $0[1] < 1 }) {
      throw MoEError.invalidConfiguration("the sequence length is \(wrong[1]), expected at least 1")
    }
    let lengths = Set(heads.filter { $0[0] > 0 }.map { $0[1] })
    if configuration.routing.capacity?.scope == .sequence, lengths.count > 1 {
      throw MoEError.invalidConfiguration(
        "the ranks' sequences are of \(lengths.sorted()) tokens, expected one length for a capacity per sequence"
      )
    }
    guard firstTokens[size] * chosen < Int(Int32.max) else {
      throw MoEError.unsupported(
        "\(firstTokens[size]) tokens of \(chosen) experts are more than 2^31 − 2 rows")
    }

    guard case .routed(let routes, let gates) = local else {
      throw MoEError.notFinite(what: "a logit", token: firstTokens[communicator.rank] + unroutable!.token)
    }

    let scopes = CapacityScopes(
      configuration, firstTokens: firstTokens, sequenceLength: lengths.first ?? 0, extent: capacityExtent)
    let (ids, weights) = (routes.choices.expertIDs, routes.choices.weights)
    let order = unsafe try GlobalOrder(
      expertIDs: ids.buffer, weights: weights.buffer, scopes: scopes,
      priority: configuration.routing.capacity?.priority ?? .tokenThenChoice,
      expertCount: configuration.expertCount, expertsPerToken: chosen,
      communicator: communicator, step: step)
    let dispatch = unsafe try TokenDispatch(
      order: order, tokenCount: shape.tokenCount, expertsPerToken: chosen, placement: placement,
      sliceCount: heads.map { $0[4] }.max()!, returned: exchange.returned, isHierarchical: isHierarchical,
      weights: part.weighsInput || exchange.returned == .partialSums ? UnsafePointer(weights.base) : nil,
      communicator: communicator, step: step)
    for (choice, expert) in order.experts.enumerated() where expert < 0 { weights[choice] = 0 }

    func kept<Element: BitwiseCopyable>(
      _ values: [Element], in scratch: inout Scratch
    ) throws(MoEError) -> MemoryView<Element> {
      let view = try scratch.reserve(values.count, of: Element.self)
      view.update(from: values)
      return view
    }
    return SpreadOrder(
      routes: routes, gates: gates,
      choices: ChoiceRows(
        rows: try kept(dispatch.choiceRow, in: &workspace.local.routing.order.choiceRow),
        slots: try kept(order.slots, in: &workspace.local.routing.order.slots),
        dropped: try kept(order.dropped, in: &workspace.local.routing.order.dropped),
        rowCount: dispatch.returnedRowCount,
        capacity: scopes.drops ? scopes.capacity(scopes.size == nil ? communicator.rank : 0) : nil),
      dispatch: dispatch,
      groups: try dispatch.slices.map { slice throws(MoEError) in
        RowGroups(
          offsets: try MemoryView(copying: slice.offsets), tokens: try MemoryView(copying: slice.order),
          rowCount: slice.rowCount)
      },
      weights: try dispatch.slices.map { slice throws(MoEError) in
        part.weighsInput ? try MemoryView(copying: slice.weights) : nil
      },
      firstTokens: firstTokens)
  }

  private var isHierarchical: Bool {
    switch exchange.route {
    case .automatic: HostRoute.isOfUse(hosts: communicator.group.hosts)
    case .direct: false
    case .hierarchical: true
    }
  }

  /// The slices that this rank would have a pass take; ranks take the largest number.
  private func proposedSlices(tokens: Int) -> Int {
    switch exchange.overlap {
    case .slices(let count): count
    case .automatic:
      communicator.size > 1 && communicator.transfersBesideComputation
        ? meter.proposal(tokens: tokens) : 1
    }
  }

  /// Sends tokens [t, D] to their experts, computes this rank's, and brings back the rows that the others made.
  ///
  /// - Parameters:
  ///   - needsRows: false where no row has to come back.
  ///   - meanwhile: work beside the first slice's exchange.
  /// - Returns: the pass of this rank's experts for each slice, and the rows `[M, D]` that came back.
  func expertRows(
    _ tokens: MemoryView<Float>, _ order: SpreadOrder, trip: OverlapMeter.Trip = .forward, isRecorded: Bool,
    needsRows: Bool = true, step: String, execution: Execution, workspace: inout ExpertParallelWorkspace,
    meanwhile: (inout ExpertParallelWorkspace) throws -> Void
  ) throws -> (slices: [NetworkTiles], rows: MemoryView<Float>?) {
    let dispatch = order.dispatch
    let buffers = workspace.tripBuffers(dispatch, width: configuration.hiddenSize, payload: exchange.payload)
    workspace.reserve(slices: dispatch.slices.count)
    // One slice's activations can take the place of another's where neither a backward pass nor a sum reads them later.
    let keepsAll = isRecorded || exchange.returned == .partialSums
    var slices: [NetworkTiles] = []
    let rows = try dispatch.trip(
      tokens, buffers: buffers, communicator: communicator, step: step, execution: execution,
      meter: OverlapMeter.Reader(meter, trip, tokens: order.routes.choices.tokenCount),
      before: { try meanwhile(&workspace) },
      compute: { index, received in
        let slice = try part.experts.forward(
          received, order.groups[index], weights: order.weights[index], isRecorded: isRecorded,
          needsRows: needsRows, execution: execution, tiles: &workspace.tiles[keepsAll ? index : 0],
          scratch: &workspace.local.call)
        slices.append(slice)
        return slice.rows
      })
    return (slices, rows)
  }
}
