public import MoECore

/// A Mixture-of-Experts layer: any routing policy, any activation, with or without a dense branch.
///
/// The layer is a value that may be shared between tasks; each task passes a `Workspace` of its own. To read
/// on into the kernels: this file → `Kernels+GroupedGEMM.swift` → `CKernels/grouped_gemm.c` and its inner loop
/// `gemm_tile.inc.h`.
public struct MoELayer: Sendable {
  /// What the layer computes.
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
  ///   - configuration: what the layer computes.
  ///   - source: `MoEWeights`, or a layer of a checkpoint.
  ///   - precision: what the experts' weights are stored in.
  ///   - execution: the threads that pack; nil for ``Execution/automatic()``.
  /// - Throws: what `source` throws, and `MoEError` for parameters that do not fit the configuration.
  public init(
    _ configuration: MoEConfiguration, weights source: some MoEWeightSource,
    precision: Precision = .float32, execution: Execution? = nil
  ) throws {
    try self.init(
      configuration, weights: source, experts: Array(0..<configuration.expertCount), precision: precision,
      execution: execution)
  }

  /// A layer with some of its experts alone, whose stages a rank computes.
  ///
  /// - Parameter experts: which ones, in the order in which they are packed.
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
  ///   - mask: one value a token, false for padding: no expert computes it and nothing counts it.
  ///   - execution: nil for ``Execution/automatic()``.
  /// - Returns: the output in the shape of the input, and what happened to the tokens.
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

  /// The same into storage of the caller's: a pass no larger than an earlier one allocates nothing.
  ///
  /// - Parameters:
  ///   - input: the activations.
  ///   - mask: one value a token, false for padding.
  ///   - output: activations of the input's shape, overwritten.
  ///   - record: overwritten.
  ///   - workspace: scratch.
  ///   - execution: nil for ``Execution/automatic()``.
  /// - Throws: as ``callAsFunction(_:mask:execution:)``; the output then has no meaning.
  public func forward(
    _ input: Activations, mask: [Bool]? = nil, into output: inout Activations, record: inout RoutingRecord,
    workspace: inout Workspace, execution: Execution? = nil
  ) throws(MoEError) {
    let execution = if let execution { execution } else { try Execution.automatic() }
    try validate(input, mask: mask, output: output)
    workspace.routing.noise = nil
    try run(
      input, mask: mask, records: nil, into: &output, record: &record, workspace: &workspace,
      execution: execution)
  }

  /// Checks what a caller passes against the configuration.
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

  /// The pass itself, of checked arguments.
  func run(
    _ input: Activations, mask: [Bool]?, records: Recording.Extent?, into output: inout Activations,
    record: inout RoutingRecord, workspace: inout Workspace, execution: Execution
  ) throws(MoEError) {
    unsafe try input.tokens.withUnsafeBufferPointer { tokens throws(MoEError) in
      unsafe try output.tokens.withUnsafeMutableBufferPointer { result throws(MoEError) in
        unsafe try forward(
          tokens.baseAddress!, shape: (input.tokenCount, input.sequenceLength), mask: mask,
          records: records, into: result.baseAddress!, record: &record, workspace: &workspace,
          execution: execution)
      }
    }
  }

  /// 1. Route: each token's experts and weights.
  /// 2. Permute: order the choices by expert, drop what exceeds the capacity, and gather the rows.
  /// 3. Compute the experts: up with the activation, down.
  /// 4. Compute the dense branch on all tokens, if there is one, and its gate.
  /// 5. Combine: add each token's rows in slot order, and the branch.
  private func forward(
    _ tokens: UnsafePointer<Float>, shape: (tokenCount: Int, sequenceLength: Int), mask: [Bool]?,
    records: Recording.Extent?, into output: UnsafeMutablePointer<Float>, record: inout RoutingRecord,
    workspace: inout Workspace,
    execution: Execution
  ) throws(MoEError) {
    unsafe try route(
      tokens, tokenCount: shape.tokenCount, mask: mask, isRecorded: records != nil, execution: execution,
      workspace: &workspace)
    let dispatch = Dispatch(
      configuration.routing, expertCount: configuration.expertCount,
      expertsPerToken: configuration.expertsPerToken, tokenCount: shape.tokenCount,
      sequenceLength: shape.sequenceLength)
    let rowCount = try Kernels.permute(
      tokenCount: shape.tokenCount, expertCount: configuration.expertCount,
      expertsPerToken: configuration.expertsPerToken, capacity: dispatch.capacity,
      priority: dispatch.priority, scope: dispatch.scope, execution: execution, workspace: &workspace)
    let rows = unsafe try expertRows(
      tokens, rowCount: rowCount, isRecorded: records == .full, execution: execution, workspace: &workspace)
    var branch: Kernels.Branch?
    if self.branch != nil {
      let branchRows = unsafe try branchRows(
        tokens, tokenCount: shape.tokenCount, isRecorded: records == .full, execution: execution,
        workspace: &workspace)
      let gates = unsafe try branchGates(
        tokens, tokenCount: shape.tokenCount, isRecorded: records != nil, execution: execution,
        workspace: &workspace)
      unsafe branch = Kernels.Branch(
        rows: branchRows, gates: gates, gateColumns: branchGate?.expertCount ?? 0)
    }
    unsafe try combine(
      rows, branch: branch, tokenCount: shape.tokenCount, into: output, execution: execution,
      workspace: &workspace)
    try updateRecord(
      &record, tokenCount: shape.tokenCount, mask: mask, capacity: dispatch.capacity, workspace: &workspace)
  }
}
