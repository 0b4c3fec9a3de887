public import MoE
public import MoECore

extension ExpertParallelLayer {
  /// Applies the layer to this rank's activations `[…, D]`. A collective.
  ///
  /// - Parameters:
  ///   - input: this rank's tokens; there may be none.
  ///   - mask: `[t]`: false for a padding token; nil if no token is padding.
  ///   - sequenceLength: the number of tokens per sequence of the batch, for capacities per sequence; nil for
  ///     `shape[-2]` of the input. A sequence may begin on one rank and end on the next.
  ///   - execution: nil for this rank's share of `Execution.automatic()`, see ``Communicator/share(of:)``.
  /// - Returns: the output in the shape of the input, and the routing of this rank's tokens.
  /// - Throws: as `MoELayer`, and `CommunicationError`. If a token cannot be routed, every rank throws and names the
  ///   token by its index in the batch.
  public func callAsFunction(
    _ input: Activations, mask: [Bool]? = nil, sequenceLength: Int? = nil, execution: Execution? = nil
  ) throws -> (output: Activations, record: RoutingRecord) {
    var output = input
    var record = RoutingRecord()
    var workspace = ExpertParallelWorkspace()
    try forward(
      input, mask: mask, sequenceLength: sequenceLength, into: &output, record: &record,
      workspace: &workspace, execution: execution)
    return (output, record)
  }

  /// Applies the layer as ``callAsFunction(_:mask:sequenceLength:execution:)`` does, in the caller's memory. A
  /// collective.
  ///
  /// - Parameters:
  ///   - input: this rank's tokens.
  ///   - mask: false for padding.
  ///   - sequenceLength: the number of tokens per sequence of the batch.
  ///   - output: activations of the input's shape, overwritten.
  ///   - record: overwritten with the routing of this rank's tokens.
  ///   - workspace: scratch.
  ///   - execution: nil for this rank's share of `Execution.automatic()`.
  public func forward(
    _ input: Activations, mask: [Bool]? = nil, sequenceLength: Int? = nil, into output: inout Activations,
    record: inout RoutingRecord, workspace: inout ExpertParallelWorkspace, execution: Execution? = nil
  ) throws {
    let execution = try execution ?? communicator.share(of: .automatic())
    try localLayer.validate(input, mask: mask, output: output)
    let tokens = LocalTokens(input, mask: mask, sequenceLength: sequenceLength)
    let (pass, _) = try Parallel.polling({ communicator.poll() }) {
      let routes = try route(
        tokens, noise: nil, isRecorded: false, execution: execution, workspace: &workspace)
      return try run(
        tokens, routes, isRecorded: false, into: MemoryView(writing: &output.tokens), workspace: &workspace,
        execution: execution)
    }
    record.update(
      from: pass.routes, pass.choices, mask: mask, loadBalance: configuration.routing.loadBalance)
  }

  /// Applies the layer and records the values that
  /// ``backward(_:input:recording:losses:of:into:gradients:workspace:execution:)`` needs. A collective.
  ///
  /// - Parameters:
  ///   - input: this rank's tokens.
  ///   - mask: false for padding.
  ///   - sequenceLength: the number of tokens per sequence of the batch.
  ///   - noise: the router's noise in training; its first token is the first token of this rank.
  ///   - recording: the recording of the pass, overwritten; routes made by
  ///     ``route(_:mask:noise:recording:workspace:execution:)`` are used.
  ///   - output: activations of the input's shape, overwritten.
  ///   - workspace: scratch.
  ///   - execution: nil for this rank's share of `Execution.automatic()`.
  ///   - meanwhile: work of the caller while the first tokens travel, such as the router of the next micro-batch. It
  ///     must not exchange anything.
  public func forward(
    _ input: Activations, mask: [Bool]? = nil, sequenceLength: Int? = nil, noise: RouterNoise? = nil,
    recording: inout ExpertParallelRecording, into output: inout Activations,
    workspace: inout ExpertParallelWorkspace, execution: Execution? = nil, meanwhile: () throws -> Void = {}
  ) throws {
    let execution = try execution ?? communicator.share(of: .automatic())
    try localLayer.validate(input, mask: mask, output: output)
    let routed = recording.routed
    if case .routed(let routes, _) = routed, routes.choices.tokenCount != input.tokenCount {
      throw MoEError.invalidConfiguration(
        "the recording has routes of \(routes.choices.tokenCount) tokens, the input \(input.tokenCount)")
    }
    recording.forget()
    workspace.exchange(with: &recording)
    defer { workspace.exchange(with: &recording) }
    let tokens = LocalTokens(input, mask: mask, sequenceLength: sequenceLength)
    let isRecorded = recording.local.extent == .full
    let (pass, activations) = try Parallel.polling({ communicator.poll() }) {
      let routes =
        try routed
        ?? route(tokens, noise: noise, isRecorded: true, execution: execution, workspace: &workspace)
      return try run(
        tokens, routes, isRecorded: isRecorded, into: MemoryView(writing: &output.tokens),
        workspace: &workspace, execution: execution, meanwhile: meanwhile)
    }
    recording.local.record.update(
      from: pass.routes, pass.choices, mask: mask, loadBalance: configuration.routing.loadBalance)
    recording.pass = RecordedDispatch(
      identity: localLayer.identity(of: input, execution), dispatched: pass,
      activations: isRecorded ? activations : nil)
  }

  /// Routes the tokens of a recorded pass ahead of the pass, while another pass exchanges rows. Not a collective.
  ///
  /// - Parameters:
  ///   - input: the input of the pass.
  ///   - mask: the mask of the pass.
  ///   - noise: the noise of the pass.
  ///   - recording: the recording to pass to the forward pass.
  ///   - workspace: scratch.
  ///   - execution: nil for this rank's share of `Execution.automatic()`.
  /// - Throws: as `MoELayer`, except for a token that cannot be routed, which the pass itself throws.
  public func route(
    _ input: Activations, mask: [Bool]? = nil, noise: RouterNoise? = nil,
    recording: inout ExpertParallelRecording, workspace: inout ExpertParallelWorkspace,
    execution: Execution? = nil
  ) throws {
    let execution = try execution ?? communicator.share(of: .automatic())
    try localLayer.validate(input, mask: mask, output: input)
    recording.forget()
    workspace.exchange(with: &recording)
    defer { workspace.exchange(with: &recording) }
    recording.routed = try route(
      LocalTokens(input, mask: mask, sequenceLength: nil), noise: noise, isRecorded: true,
      execution: execution, workspace: &workspace)
  }

  /// Computes the pass of routed tokens:
  ///
  /// 1. Gather a header from every rank, so that all ranks know how the batch is spread over them.
  /// 2. Exchange counts of choices. Every choice gets its place among all rows of its expert, or is dropped, as if one
  ///    rank had the whole batch.
  /// 3. Exchange metadata: each rank learns which rows its experts compute, and in which order.
  /// 4. Dispatch: each token travels once to every rank that has one of its experts, slice by slice.
  /// 5. While the first slice travels, compute the dense branch on this rank's tokens, and do the caller's work.
  /// 6. Compute this rank's experts slice by slice. The rows of one slice travel back while the next is computed.
  /// 7. Combine: add the rows of each token in slot order, and the branch.
  private func run(
    _ tokens: LocalTokens, _ local: LocalRoutes, isRecorded: Bool, into output: MemoryView<Float>,
    workspace: inout ExpertParallelWorkspace, execution: Execution, meanwhile: () throws -> Void = {}
  ) throws -> (DispatchedPass, DispatchedActivations) {
    let activity = "the forward pass"

    // 1.
    let batch = try gatherBatch(tokens, unroutable: local.unroutable, during: activity)
    // For a token without a route, the batch has already thrown on all ranks.
    guard case .routed(let routes, let gates) = local else {
      throw MoEError.notFinite(what: "a logit", token: batch.firstTokens[communicator.rank])
    }
    // 2.
    let scopes = CapacityScopes(configuration, batch, extent: capacityExtent)
    let order = try order(
      routes.choices, in: scopes, during: activity, execution: execution, workspace: &workspace)
    // 3.
    let plan = try plan(order, routes.choices, slices: batch.sliceCount, during: activity)
    let pass = DispatchedPass(
      batch: batch, routes: routes, gates: gates, plan: plan,
      choices: try choiceRows(
        order, plan, capacity: scopes.capacity(ofRank: communicator.rank), workspace: &workspace),
      slices: try plan.slices.map { slice throws(MoEError) in
        try SliceRows(slice, weighsInput: localLayer.weighsInput)
      })
    // 4.
    workspace.reserve(slices: plan.slices.count)
    let buffers = workspace.buffers(
      for: plan, width: configuration.hiddenSize, payload: exchange.payload)
    var handle = try plan.dispatch(
      tokens.values, through: buffers, over: communicator, execution: execution,
      meter: OverlapMeter.Reader(meter, .forward, tokens: tokens.count), during: activity)
    // 5.
    let branch = try localLayer.applyBranch(
      tokens.values, isRecorded: isRecorded, execution: execution, workspace: &workspace.local)
    try meanwhile()
    // 6.
    var slices: [NetworkTiles] = []
    for (index, slice) in pass.slices.enumerated() {
      let received = try handle.receive(index)
      let made = try applyExperts(
        received, slice, tile: tile(ofSlice: index, isRecorded: isRecorded), isRecorded: isRecorded,
        execution: execution, workspace: &workspace)
      try handle.sendBack(made.rows!, ofSlice: index)
      slices.append(made)
    }
    // 7.
    let rows = try handle.combine()
    localLayer.combine(
      rows, pass.choices, routes, areWeighted: exchange.returned == .partialSums, branch: branch,
      gates: gates, into: output, execution: execution)
    return (pass, DispatchedActivations(slices: slices, rows: rows, branch: branch))
  }
}

/// This rank's tokens in one pass.
struct LocalTokens {
  /// `[count, D]`: the tokens.
  let values: MemoryView<Float>
  /// The number of tokens, t.
  let count: Int
  /// The number of tokens per sequence of the batch.
  let sequenceLength: Int
  /// `[count]`: false for padding; nil if no token is padding.
  let mask: [Bool]?

  /// - Parameter sequenceLength: the number of tokens per sequence; nil for that of the input.
  init(_ input: Activations, mask: [Bool]?, sequenceLength: Int?) {
    values = MemoryView(input.tokens)
    count = input.tokenCount
    self.sequenceLength = sequenceLength ?? input.sequenceLength
    self.mask = mask
  }
}
