internal import MoE
internal import MoECore

/// The stages of a pass that involve other ranks.
extension ExpertParallelLayer {
  /// Routes this rank's tokens and gates the dense branch.
  ///
  /// - Returns: what a token was that cannot be routed, to be told to all ranks before anything is thrown.
  func route(
    _ tokens: UnsafePointer<Float>, tokenCount: Int, mask: [Bool]?, isRecorded: Bool, execution: Execution,
    workspace: inout ExpertParallelWorkspace
  ) throws(MoEError) -> Unroutable? {
    do {
      unsafe try part.route(
        tokens, tokenCount: tokenCount, mask: mask, isRecorded: isRecorded, execution: execution,
        workspace: &workspace.local)
    } catch {
      guard case .notFinite(_, let token) = error else { throw error }
      return Unroutable(token: token, isGate: false)
    }
    do {
      _ = unsafe try part.branchGates(
        tokens, tokenCount: tokenCount, isRecorded: isRecorded, execution: execution,
        workspace: &workspace.local)
    } catch {
      guard case .notFinite(_, let token) = error else { throw error }
      return Unroutable(token: token, isGate: true)
    }
    return nil
  }

  /// A token whose router's logit, or dense branch's gate, is NaN or infinite.
  struct Unroutable {
    var token: Int
    var isGate: Bool
  }

  /// Tokens that were routed before their pass.
  struct Routed {
    var tokenCount: Int
    var unroutable: Unroutable?
  }

  /// Gives each choice its place among its expert's rows over all ranks, or drops it, and arranges who sends what.
  ///
  /// - Returns: the capacity of an expert in a scope.
  func order(
    shape: (tokenCount: Int, sequenceLength: Int), unroutable: Unroutable?, during activity: String,
    workspace: inout ExpertParallelWorkspace
  ) throws -> Int? {
    let size = communicator.size
    let chosen = configuration.expertsPerToken
    let start = ContinuousClock.now
    let values = try communicator.allGather(
      [
        shape.tokenCount, shape.sequenceLength, unroutable.map { $0.isGate ? 2 : 1 } ?? 0,
        unroutable?.token ?? 0, proposedSlices(tokens: shape.tokenCount),
      ], during: activity)
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

    let scopes = CapacityScopes(
      configuration, firstTokens: firstTokens, sequenceLength: lengths.first ?? 0, extent: capacityExtent)
    let choices = shape.tokenCount * chosen
    let ids = unsafe try workspace.local.routing.expertIDs.reserve(choices, of: Int32.self)
    let weights = unsafe try workspace.local.routing.expertWeights.reserve(choices, of: Float.self)
    let order = unsafe try GlobalOrder(
      expertIDs: UnsafeBufferPointer(start: ids, count: choices),
      weights: UnsafeBufferPointer(start: weights, count: choices), scopes: scopes,
      priority: configuration.routing.capacity?.priority ?? .tokenThenChoice,
      expertCount: configuration.expertCount, expertsPerToken: chosen,
      communicator: communicator, during: activity)
    let tokens = unsafe try TokenDispatch(
      order: order, tokenCount: shape.tokenCount, expertsPerToken: chosen, placement: placement,
      sliceCount: heads.map { $0[4] }.max()!, returned: exchange.returned, isHierarchical: isHierarchical,
      weights: weighsInput || exchange.returned == .partialSums ? UnsafePointer(weights) : nil,
      communicator: communicator, during: activity)
    for choice in 0..<choices where order.experts[choice] < 0 { unsafe weights[choice] = 0 }
    try Self.copy(order.slots, to: &workspace.local.slots)
    try Self.copy(order.dropped, to: &workspace.local.dropped)
    try Self.copy(tokens.choiceRow, to: &workspace.local.routing.choiceRow)
    workspace.kept.dispatch = tokens
    workspace.kept.firstTokens = firstTokens
    return scopes.drops ? scopes.capacity(scopes.size == nil ? communicator.rank : 0) : nil
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

  /// The slices that this rank would have a pass take; ranks take the largest number.
  private func proposedSlices(tokens: Int) -> Int {
    switch exchange.overlap {
    case .slices(let count): count
    case .automatic:
      communicator.size > 1 && communicator.transfersBesideComputation
        ? meter.proposal(tokens: tokens) : 1
    }
  }

  /// Sends tokens to their experts, computes this rank's, and brings back what the others made.
  ///
  /// - Parameter meanwhile: work beside the first slice's exchange.
  /// - Returns: a row for each of this rank's choices, `[rows, D]`, as `choiceRow` numbers them; nil without `needsRows`.
  func expertRows(
    _ tokens: UnsafePointer<Float>, trip: OverlapMeter.Trip = .forward, isRecorded: Bool,
    needsRows: Bool = true, during activity: String,
    execution: Execution, workspace: inout ExpertParallelWorkspace,
    meanwhile: (inout ExpertParallelWorkspace) throws -> Void
  ) throws -> UnsafePointer<Float>? {
    let dispatch = workspace.kept.dispatch!
    let buffers = workspace.tripBuffers(dispatch, width: configuration.hiddenSize, payload: exchange.payload)
    workspace.reserve(slices: dispatch.slices.count)
    // One slice's activations can take the place of another's where neither a backward pass nor a sum reads them later.
    let keepsAll = isRecorded || exchange.returned == .partialSums
    return unsafe try dispatch.trip(
      tokens, buffers: buffers, communicator: communicator, during: activity, execution: execution,
      meter: OverlapMeter.Reader(meter, trip, tokens: workspace.kept.tokenCount(of: communicator.rank)),
      before: { try meanwhile(&workspace) },
      compute: { index, received in
        let slice = dispatch.slices[index]
        let rows = unsafe try slice.weights.withUnsafeBufferPointer { weights throws(MoEError) in
          unsafe try Kernels.networkForward(
            part.experts, tokens: received, order: slice.order,
            weights: weighsInput ? weights.baseAddress : nil,
            offsets: slice.offsets, rowCount: slice.rowCount, isRecorded: isRecorded, needsRows: needsRows,
            execution: execution, tiles: &workspace.tiles[keepsAll ? index : 0],
            scratch: &workspace.local.kernel)
        }
        return unsafe needsRows ? rows : nil
      })
  }

  private static func copy<Element: BitwiseCopyable>(
    _ values: [Element], to scratch: inout Scratch
  ) throws(MoEError) {
    let target = unsafe try scratch.reserve(values.count, of: Element.self)
    for (index, value) in values.enumerated() { unsafe target[index] = value }
  }
}
