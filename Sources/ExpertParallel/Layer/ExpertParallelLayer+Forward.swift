public import MoE
public import MoECore

extension ExpertParallelLayer {
  /// Applies the layer to this rank's activations `[…, D]`. A collective.
  ///
  /// - Parameters:
  ///   - input: this rank's tokens; there may be none.
  ///   - mask: `[t]`: false for a padding token; nil if no token is padding.
  ///   - sequenceLength: the tokens of a sequence of the batch, for capacities per sequence; nil for `shape[-2]` of the
  ///     input. A sequence may begin on one rank and end on the next.
  ///   - execution: nil for this rank's share of `Execution.automatic()`, see ``Communicator/share(of:)``.
  /// - Returns: the output in the shape of the input, and the routing of this rank's tokens.
  /// - Throws: as `MoELayer`, and `CommunicationError`. If a token cannot be routed, every rank throws and names the token by
  ///   its index in the batch.
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

  /// Applies the layer as ``callAsFunction(_:mask:sequenceLength:execution:)`` does, in memory of the caller. A collective.
  ///
  /// - Parameters:
  ///   - input: this rank's tokens.
  ///   - mask: false for padding.
  ///   - sequenceLength: the tokens of a sequence of the batch.
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
    workspace.local.routing.noise = nil
    _ = unsafe try withTokens(input, mask: mask, sequenceLength: sequenceLength, into: &output) {
      tokens, result in
      unsafe try forward(
        tokens, recorded: nil, into: result, record: &record, workspace: &workspace, execution: execution)
    }
  }

  /// Applies the layer and records what
  /// ``backward(_:input:recording:losses:of:into:gradients:workspace:execution:)`` needs. A collective.
  ///
  /// - Parameters:
  ///   - input: this rank's tokens.
  ///   - mask: false for padding.
  ///   - sequenceLength: the tokens of a sequence of the batch.
  ///   - noise: of the router in training; its first token is the first token of this rank.
  ///   - recording: overwritten; routes made by ``route(_:mask:noise:recording:workspace:execution:)`` are used.
  ///   - output: activations of the input's shape, overwritten.
  ///   - workspace: scratch.
  ///   - execution: nil for this rank's share of `Execution.automatic()`.
  ///   - meanwhile: work of the caller while the first tokens travel, such as the router of the next micro-batch. It must
  ///     not exchange anything.
  public func forward(
    _ input: Activations, mask: [Bool]? = nil, sequenceLength: Int? = nil, noise: RouterNoise? = nil,
    recording: inout ExpertParallelRecording, into output: inout Activations,
    workspace: inout ExpertParallelWorkspace, execution: Execution? = nil, meanwhile: () throws -> Void = {}
  ) throws {
    let execution = try execution ?? communicator.share(of: .automatic())
    try localLayer.validate(input, mask: mask, output: output)
    try noise?.validate()
    let routed = recording.routed
    if let routed, routed.tokenCount != input.tokenCount {
      throw MoEError.invalidConfiguration(
        "the recording has routes of \(routed.tokenCount) tokens, the input \(input.tokenCount)")
    }
    recording.routed = nil
    recording.local.pass = nil
    workspace.exchange(with: &recording)
    defer { workspace.exchange(with: &recording) }
    if routed == nil { workspace.local.routing.noise = noise }
    recording.dispatched = unsafe try withTokens(
      input, mask: mask, sequenceLength: sequenceLength, into: &output
    ) { tokens, result in
      unsafe try forward(
        tokens, routed: routed, recorded: recording.local.extent, into: result,
        record: &recording.local.record, workspace: &workspace, execution: execution, meanwhile: meanwhile)
    }
    recording.local.pass = localLayer.recordedPass(input, execution)
  }

  /// Routes the tokens of a recorded pass ahead of the pass, while another pass exchanges rows. Not a collective.
  ///
  /// - Parameters:
  ///   - input: the input of the pass.
  ///   - mask: the mask of the pass.
  ///   - noise: the noise of the pass.
  ///   - recording: to be given to the pass.
  ///   - workspace: to be given to the pass too, and to no other pass before it.
  ///   - execution: nil for this rank's share of `Execution.automatic()`.
  /// - Throws: as `MoELayer`, except for a token that cannot be routed, which the pass itself throws.
  public func route(
    _ input: Activations, mask: [Bool]? = nil, noise: RouterNoise? = nil,
    recording: inout ExpertParallelRecording, workspace: inout ExpertParallelWorkspace,
    execution: Execution? = nil
  ) throws {
    let execution = try execution ?? communicator.share(of: .automatic())
    try localLayer.validate(input, mask: mask, output: input)
    try noise?.validate()
    recording.local.pass = nil
    workspace.exchange(with: &recording)
    defer { workspace.exchange(with: &recording) }
    workspace.local.routing.noise = noise
    let unroutable = unsafe try input.tokens.withUnsafeBufferPointer { values in
      unsafe try route(
        LocalTokens(
          values: values.baseAddress!, count: input.tokenCount, sequenceLength: input.sequenceLength,
          mask: mask),
        isRecorded: true, execution: execution, workspace: &workspace)
    }
    recording.routed = Routed(tokenCount: input.tokenCount, unroutable: unroutable)
  }

  /// Calls `body` with pointers to the tokens and to the output, and lets exchanges make progress while it computes.
  private func withTokens<Result>(
    _ input: Activations, mask: [Bool]?, sequenceLength: Int?, into output: inout Activations,
    _ body: (LocalTokens, UnsafeMutablePointer<Float>) throws -> Result
  ) throws -> Result {
    unsafe try input.tokens.withUnsafeBufferPointer { values in
      unsafe try output.tokens.withUnsafeMutableBufferPointer { result in
        let tokens = unsafe LocalTokens(
          values: values.baseAddress!, count: input.tokenCount,
          sequenceLength: sequenceLength ?? input.sequenceLength, mask: mask)
        return try Parallel.polling({ communicator.poll() }) {
          unsafe try body(tokens, result.baseAddress!)
        }
      }
    }
  }

  /// 1. Route this rank's tokens, and gate the dense branch.
  /// 2. Gather a header from every rank, so that all ranks know how the batch is spread over them.
  /// 3. Exchange counts of choices. Every choice gets its place among all rows of its expert, or is dropped, as if one rank
  ///    had the whole batch.
  /// 4. Exchange metadata: each rank learns which rows its experts compute, and in which order.
  /// 5. Dispatch: each token travels once to every rank that has one of its experts, slice by slice.
  /// 6. While the first slice travels, compute the dense branch on this rank's tokens, and do the caller's work.
  /// 7. Compute this rank's experts slice by slice. The rows of one slice travel back while the next is computed.
  /// 8. Combine: add the rows of each token in slot order, and the branch.
  private func forward(
    _ tokens: LocalTokens, routed: Routed? = nil, recorded: Recording.Extent?,
    into output: UnsafeMutablePointer<Float>, record: inout RoutingRecord,
    workspace: inout ExpertParallelWorkspace, execution: Execution, meanwhile: () throws -> Void = {}
  ) throws -> DispatchedPass {
    let activity = "the forward pass"
    let isRecorded = recorded == .full

    // 1.
    let unroutable =
      if let routed {
        routed.unroutable
      } else {
        try route(tokens, isRecorded: recorded != nil, execution: execution, workspace: &workspace)
      }
    // 2.
    let batch = try gatherBatch(tokens, unroutable: unroutable, during: activity)
    // 3.
    let scopes = CapacityScopes(configuration, batch, extent: capacityExtent)
    let order = try order(tokens, in: scopes, during: activity, workspace: &workspace)
    // 4.
    let plan = try plan(order, slices: batch.sliceCount, during: activity, workspace: &workspace)
    // 5.
    workspace.reserve(slices: plan.slices.count)
    let buffers = workspace.buffers(
      for: plan, width: configuration.hiddenSize, payload: exchange.payload)
    var handle = unsafe try plan.dispatch(
      tokens.values, through: buffers, over: communicator, execution: execution,
      meter: OverlapMeter.Reader(meter, .forward, tokens: tokens.count), during: activity)
    // 6.
    let branch = unsafe try branchRows(
      tokens, isRecorded: isRecorded, execution: execution, workspace: &workspace)
    try meanwhile()
    // 7.
    for (index, slice) in plan.slices.enumerated() {
      let received = unsafe try handle.receive(index)
      let rows = unsafe try expertRows(
        received, of: slice, tile: tile(ofSlice: index, isRecorded: isRecorded), isRecorded: isRecorded,
        execution: execution, workspace: &workspace)
      unsafe try handle.sendBack(rows, ofSlice: index)
    }
    // 8.
    let rows = unsafe try handle.combine()
    unsafe try localLayer.combine(
      rows, areWeighted: exchange.returned == .partialSums, branch: branch, tokenCount: tokens.count,
      into: output, execution: execution, workspace: &workspace.local)
    try localLayer.updateRecord(
      &record, tokenCount: tokens.count, mask: tokens.mask,
      capacity: scopes.capacity(ofRank: communicator.rank),
      workspace: &workspace.local)
    return DispatchedPass(batch: batch, plan: plan)
  }
}

/// This rank's tokens in one pass; the pointer is valid while the pass runs.
@safe struct LocalTokens {
  /// `[count, D]`.
  let values: UnsafePointer<Float>
  /// t.
  let count: Int
  /// The tokens of a sequence of the batch.
  let sequenceLength: Int
  /// `[count]`: false for padding; nil if no token is padding.
  let mask: [Bool]?
}
