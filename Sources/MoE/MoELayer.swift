public import MoECore

/// A Mixture-of-Experts layer: any routing policy, any activation, with or without a dense branch.
///
/// The layer is a value that may be shared between tasks; each task passes a `Workspace` of its own. To follow a pass
/// into the kernels, read this file → `Kernels+GroupedGEMM.swift` → `CKernels/grouped_gemm.c` and its inner loop
/// `gemm_tile.inc.h`.
public struct MoELayer: Sendable {
  /// The sizes, the activation and the routing of the layer.
  public let configuration: MoEConfiguration
  /// The router's parameters.
  public let router: PackedRouter
  /// The experts' parameters.
  public let experts: PackedExperts
  package let branch: PackedExperts?
  package let branchGate: PackedRouter?

  /// Packs the parameters of `source`, one expert at a time.
  ///
  /// - Parameters:
  ///   - configuration: the sizes, the activation and the routing of the layer.
  ///   - source: `MoEWeights`, or a layer of a checkpoint.
  ///   - precision: the format in which the experts' weights are stored.
  ///   - execution: the execution whose threads pack; nil for ``Execution/automatic()``.
  /// - Throws: what `source` throws, and `MoEError` for parameters that do not fit the configuration.
  public init(
    _ configuration: MoEConfiguration, weights source: some MoEWeightSource,
    precision: Precision = .float32, execution: Execution? = nil
  ) throws {
    try self.init(
      configuration, weights: source, experts: Array(0..<configuration.expertCount), precision: precision,
      execution: execution)
  }

  /// Makes a layer with only some of its experts, whose stages one rank computes.
  ///
  /// - Parameter experts: the numbers of these experts, in the order in which they are packed.
  package init(
    _ configuration: MoEConfiguration, weights source: some MoEWeightSource, experts: [Int],
    precision: Precision, execution: Execution?
  ) throws {
    let execution = try execution ?? .automatic()
    self.configuration = configuration
    router = try PackedRouter(
      source.router(), hiddenSize: configuration.hiddenSize, expertCount: configuration.expertCount,
      expertsPerToken: configuration.expertsPerToken, policy: configuration.routing, execution: execution)
    self.experts = try PackedExperts(
      hiddenSize: configuration.hiddenSize, feedForwardSize: configuration.feedForwardSize,
      expertCount: experts.count, activation: configuration.activation, precision: precision,
      execution: execution, expert: { try source.expert(experts[$0]) },
      name: { configuration.expertCount == 1 ? "expert" : "expert \(experts[$0])" })
    branch = try configuration.denseBranch.map { dense in
      try PackedExperts(
        hiddenSize: configuration.hiddenSize, feedForwardSize: dense.feedForwardSize, expertCount: 1,
        activation: configuration.activation, precision: precision, execution: execution,
        owner: "the dense branch", expert: { _ in try source.denseBranch() })
    }
    guard let dense = configuration.denseBranch, dense.gateRows > 0 else {
      branchGate = nil
      return
    }
    let gate = try source.denseBranchGate()
    branchGate = try PackedRouter(
      RouterWeights(weight: gate.weight, bias: gate.bias), hiddenSize: configuration.hiddenSize,
      expertCount: dense.gateRows, expertsPerToken: dense.gateRows,
      policy: RoutingPolicy(scoring: dense.gateRows == 1 ? .sigmoid : .softmax), execution: execution)
  }

  init(
    _ configuration: MoEConfiguration, router: PackedRouter, experts: PackedExperts, branch: PackedExperts?,
    branchGate: PackedRouter?
  ) {
    self.configuration = configuration
    self.router = router
    self.experts = experts
    self.branch = branch
    self.branchGate = branchGate
  }

  /// Applies the layer to activations `[…, D]`.
  ///
  /// - Parameters:
  ///   - input: the activations; `shape[-2]` is the length of a sequence, for capacities per sequence.
  ///   - mask: one value per token, false for padding. No expert computes a padding token, and no count includes it.
  ///   - execution: nil for ``Execution/automatic()``.
  /// - Returns: the output in the shape of the input, and the record of the routing.
  /// - Throws: `MoEError.shapeMismatch` for another hidden size or mask length,
  ///   `MoEError.notFinite` for a token that cannot be routed.
  public func callAsFunction(
    _ input: Activations, mask: [Bool]? = nil, execution: Execution? = nil
  ) throws(MoEError) -> (output: Activations, record: RoutingRecord) {
    var output = input
    var record = RoutingRecord()
    var workspace = Workspace()
    try forward(
      input, mask: mask, into: &output, record: &record, workspace: &workspace, execution: execution)
    return (output, record)
  }

  /// Applies the layer and writes to storage of the caller. A pass that is no larger than an earlier one allocates
  /// nothing.
  ///
  /// - Parameters:
  ///   - input: the activations.
  ///   - mask: one value per token, false for padding.
  ///   - output: activations of the input's shape, overwritten.
  ///   - record: the record of the routing, overwritten.
  ///   - workspace: scratch.
  ///   - execution: nil for ``Execution/automatic()``.
  /// - Throws: as ``callAsFunction(_:mask:execution:)``; the output then has no meaning.
  public func forward(
    _ input: Activations, mask: [Bool]? = nil, into output: inout Activations, record: inout RoutingRecord,
    workspace: inout Workspace, execution: Execution? = nil
  ) throws(MoEError) {
    let execution = if let execution { execution } else { try Execution.automatic() }
    try validate(input, mask: mask, output: output)
    _ = try run(
      input, mask: mask, noise: nil, records: nil, into: &output, record: &record, workspace: &workspace,
      execution: execution)
  }

  /// Applies the layer and records the values that
  /// ``backward(_:input:recording:losses:into:gradients:workspace:execution:)`` reads.
  ///
  /// - Parameters:
  ///   - input: the activations.
  ///   - mask: one value per token, false for padding.
  ///   - noise: the router's noise in training; nil routes as at evaluation.
  ///   - recording: the recording of the pass, overwritten.
  ///   - output: activations of the input's shape, overwritten.
  ///   - workspace: scratch; it keeps no part of the recording.
  ///   - execution: nil for ``Execution/automatic()``; the backward pass has to use the same instruction set.
  /// - Throws: as ``callAsFunction(_:mask:execution:)``.
  public func forward(
    _ input: Activations, mask: [Bool]? = nil, noise: RouterNoise? = nil, recording: inout Recording,
    into output: inout Activations, workspace: inout Workspace, execution: Execution? = nil
  ) throws(MoEError) {
    let execution = if let execution { execution } else { try Execution.automatic() }
    try validate(input, mask: mask, output: output)
    recording.forget()
    workspace.exchange(with: &recording)
    defer { workspace.exchange(with: &recording) }
    let pass = try run(
      input, mask: mask, noise: noise, records: recording.extent, into: &output, record: &recording.record,
      workspace: &workspace, execution: execution)
    recording.pass = RecordedPass(
      identity: identity(of: input, execution), routes: pass.routes, order: pass.order, gates: pass.gates,
      activations: recording.extent == .full ? pass.activations : nil)
  }

  /// Computes the pass from checked arguments: route, permute, apply the experts and the dense branch, combine.
  private func run(
    _ input: Activations, mask: [Bool]?, noise: RouterNoise?, records: Recording.Extent?,
    into output: inout Activations, record: inout RoutingRecord, workspace: inout Workspace,
    execution: Execution
  ) throws(MoEError) -> ForwardPass {
    let tokens = MemoryView(input.tokens)
    let result = MemoryView(writing: &output.tokens)
    let capacity = CapacityInForce(
      configuration.routing, expertCount: configuration.expertCount,
      expertsPerToken: configuration.expertsPerToken, tokenCount: input.tokenCount,
      sequenceLength: input.sequenceLength)
    let (keepsRouting, keepsActivations) = (records != nil, records == .full)

    let routes = try route(
      tokens, mask: mask, noise: noise, capacity, isRecorded: keepsRouting, execution: execution,
      workspace: &workspace)
    let order = try permute(routes, capacity, execution: execution, workspace: &workspace)
    let rows = try applyExperts(
      tokens, order, isRecorded: keepsActivations, execution: execution, workspace: &workspace)
    let branch = try applyBranch(
      tokens, isRecorded: keepsActivations, execution: execution, workspace: &workspace)
    let gates = try gateBranch(
      tokens, isRecorded: keepsRouting, execution: execution, workspace: &workspace)
    combine(
      rows.rows!, order.choices, routes, branch: branch, gates: gates, into: result, execution: execution)

    record.update(from: routes, order.choices, mask: mask, loadBalance: configuration.routing.loadBalance)
    return ForwardPass(
      routes: routes, order: order, gates: gates, activations: LayerTiles(experts: rows, branch: branch))
  }

  /// Checks a caller's arguments against the configuration.
  package func validate(_ input: Activations, mask: [Bool]?, output: Activations) throws(MoEError) {
    guard input.tokens.columns == configuration.hiddenSize else {
      throw .shapeMismatch(
        what: "the input", expected: input.shape.dropLast() + [configuration.hiddenSize], actual: input.shape)
    }
    if output.shape != input.shape {
      throw .shapeMismatch(what: "the output", expected: input.shape, actual: output.shape)
    }
    if let mask, mask.count != input.tokenCount {
      throw .shapeMismatch(what: "the token mask", expected: [input.tokenCount], actual: [mask.count])
    }
    if input.tokenCount * configuration.expertsPerToken >= Int(Int32.max) {
      throw .unsupported(
        "\(input.tokenCount) tokens of \(configuration.expertsPerToken) experts are more than 2^31 − 2 rows")
    }
  }
}
