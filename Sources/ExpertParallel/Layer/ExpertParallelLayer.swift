public import MoE
public import MoECore

/// A Mixture-of-Experts layer whose experts are spread over ranks: tokens travel to them and back.
///
/// Rank r holds the r-th contiguous part of the batch's tokens, of any size, and the experts that ``placement`` gives it.
/// Router, dense branch and its gate are on every rank. Output, routing and gradients have the bits of ``MoELayer`` on
/// the whole batch, unless an option gives them up: see ``GradientSum`` for what they cost, ``ReturnedRows``, ``Payload``,
/// ``Extent`` and tensor parallelism.
///
/// Every method that exchanges is a collective: all ranks call it, in the same order, also with no tokens. One that
/// throws on one rank alone leaves the others to the communicator's deadline.
public struct ExpertParallelLayer {
  /// How the gradients of parameters that several ranks hold become those of the whole batch.
  public enum GradientSum: Sendable {
    /// The bits of one rank: each rank adds its tokens to the sums of the ranks before it and passes them on, and the
    /// last one gives them to all.
    ///
    /// The ranks do this one after another, so that the products of the router's and dense branch's gradients,
    /// 2·T·(E·D + parts·D·F), take the time they take on one rank, and P floats of parameters travel R − 1 times over
    /// one link and once to all.
    case exact
    /// Each rank adds up its own tokens, all at once, and an all-reduce adds these sums in order of rank.
    ///
    /// The same on all ranks and from run to run, but rounded otherwise than on one rank: both differ from the exact sum
    /// of n terms by at most γ = (n + 1)·u/(1 − (n + 1)·u) times Σ|terms| with u = 2⁻²⁴ (Higham, *Accuracy and Stability
    /// of Numerical Algorithms*, §4.2), so from one another by at most 2·γ·Σ|terms|.
    case reduced
  }

  /// The tokens that a capacity, or a loss, is of.
  public enum Extent: Sendable {
    /// All ranks', as on one rank.
    case batch
    /// Each rank's own, as DeepSpeed and Megatron-Core count: capacities and drops depend on the number of ranks, and
    /// each rank's output is that of one rank with its tokens alone.
    case rank
  }

  /// Which ranks hold which experts.
  public let placement: ExpertPlacement
  /// The ranks.
  public let communicator: any Communicator
  /// How gradients of shared parameters are added.
  public let gradientSum: GradientSum
  /// How tokens and rows travel.
  public let exchange: ExchangeOptions
  /// Whose tokens compete for a capacity of the batch.
  public let capacityExtent: Extent
  /// The layer with this rank's experts alone, for its stages.
  package internal(set) var part: MoELayer
  let meter = OverlapMeter()

  /// What the layer computes.
  public internal(set) var configuration: MoEConfiguration
  /// The experts of this rank.
  public var localExperts: [Int] { placement.experts[communicator.rank] }

  /// Packs the router, the dense branch and this rank's experts.
  ///
  /// - Parameters:
  ///   - configuration: what the layer computes, the same on all ranks.
  ///   - source: asked for this rank's experts only.
  ///   - communicator: the ranks.
  ///   - placement: which rank holds which experts, the same on all ranks; nil for experts in order over ranks in order.
  ///   - precision: what the networks' weights are stored in.
  ///   - gradientSum: how gradients of shared parameters are added, the same on all ranks.
  ///   - exchange: how tokens and rows travel, the same on all ranks.
  ///   - capacityExtent: whose tokens compete for a capacity of the batch, the same on all ranks.
  ///   - execution: the threads that pack; nil for `Execution.automatic()`.
  /// - Throws: as `MoELayer`, `MoEError.invalidConfiguration` for a placement of other numbers of ranks or experts, an F
  ///   that does not divide into its parts, or a number of slices outside 1 to ``OverlapDegree/limit``, and
  ///   `MoEError.unsupported` for ``ReturnedRows/partialSums`` where there are none.
  public init(
    _ configuration: MoEConfiguration, weights source: some MoEWeightSource,
    over communicator: any Communicator, placement: ExpertPlacement? = nil,
    precision: Precision = .float32, gradientSum: GradientSum = .exact,
    exchange: ExchangeOptions = ExchangeOptions(), capacityExtent: Extent = .batch,
    execution: Execution? = nil
  ) throws {
    let (rank, size) = (communicator.rank, communicator.size)
    let placement =
      placement ?? ExpertPlacement(expertCount: configuration.expertCount, rankCount: size)
    guard placement.rankCount == size, placement.expertCount == configuration.expertCount else {
      throw MoEError.invalidConfiguration(
        "the placement is of \(placement.expertCount) experts on \(placement.rankCount) ranks, expected "
          + "\(configuration.expertCount) on \(size)")
    }
    if case .slices(let count) = exchange.overlap, !(1...OverlapDegree.limit).contains(count) {
      throw MoEError.invalidConfiguration(
        "the exchange has \(count) slices, expected 1 to \(OverlapDegree.limit)")
    }
    let parts = placement.tensorParallelSize
    guard configuration.feedForwardSize % parts == 0 else {
      throw MoEError.invalidConfiguration(
        "the feed-forward size \(configuration.feedForwardSize) does not divide into \(parts) equal parts")
    }
    if exchange.returned == .partialSums {
      guard configuration.routing.weightPlacement == .output, configuration.denseBranch?.gateRows ?? 0 < 2
      else {
        throw MoEError.unsupported(
          "rows cannot be added up before they return where weights multiply the experts' input, or a gate their sum"
        )
      }
    }
    self.configuration = configuration
    self.placement = placement
    self.capacityExtent = capacityExtent
    self.communicator = communicator
    self.gradientSum = gradientSum
    self.exchange = exchange
    part = try MoELayer(
      configuration.withFeedForwardSize(configuration.feedForwardSize / parts),
      weights: PartOfExperts(source: source, part: rank % parts, partCount: parts),
      experts: placement.experts[rank], precision: precision,
      execution: execution)
  }

  /// Applies the layer to this rank's activations `[…, D]`.
  ///
  /// - Parameters:
  ///   - input: this rank's tokens, which may be none.
  ///   - mask: one value a token, false for padding.
  ///   - sequenceLength: tokens of a sequence of the batch, for capacities per sequence: ranks may divide a sequence.
  ///     nil for `shape[-2]` of the input.
  ///   - execution: nil for `Execution.automatic()`; local ranks share the processors.
  /// - Returns: the output in the shape of the input, and what happened to this rank's tokens.
  /// - Throws: as `MoELayer`, and `CommunicationError`. A token that cannot be routed is named by its index in the batch
  ///   on every rank.
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

  /// Applies the layer into storage of the caller's.
  public func forward(
    _ input: Activations, mask: [Bool]? = nil, sequenceLength: Int? = nil, into output: inout Activations,
    record: inout RoutingRecord, workspace: inout ExpertParallelWorkspace, execution: Execution? = nil
  ) throws {
    let execution = try execution ?? .automatic()
    try part.validate(input, mask: mask, output: output)
    let local = try route(
      MemoryView(input.tokens), mask: mask, noise: nil, isRecorded: false, execution: execution,
      workspace: &workspace)
    let (order, _) = try run(
      input, local, sequenceLength: sequenceLength, isRecorded: false, into: &output, workspace: &workspace,
      execution: execution)
    record.update(
      from: order.routes, order.choices, mask: mask, loadBalance: configuration.routing.loadBalance)
  }

  /// Applies the layer and records the values that
  /// ``backward(_:input:recording:losses:of:into:gradients:workspace:execution:)`` reads.
  ///
  /// - Parameters:
  ///   - noise: of the router in training; its first token is that of this rank's part.
  ///   - recording: overwritten, but for the routes of ``route(_:mask:noise:recording:workspace:execution:)``.
  ///   - meanwhile: work of the caller's while the first tokens travel, such as the router of the next micro-batch; it may
  ///     not exchange anything.
  public func forward(
    _ input: Activations, mask: [Bool]? = nil, sequenceLength: Int? = nil, noise: RouterNoise? = nil,
    recording: inout ExpertParallelRecording, into output: inout Activations,
    workspace: inout ExpertParallelWorkspace, execution: Execution? = nil, meanwhile: () throws -> Void = {}
  ) throws {
    let execution = try execution ?? .automatic()
    try part.validate(input, mask: mask, output: output)
    try noise?.validate()
    let routed = recording.routed
    if case .routed(let routes, _) = routed, routes.choices.tokenCount != input.tokenCount {
      throw MoEError.invalidConfiguration(
        "the recording has routes of \(routes.choices.tokenCount) tokens, the input \(input.tokenCount)")
    }
    recording.forget()
    workspace.exchange(with: &recording)
    defer { workspace.exchange(with: &recording) }
    let local =
      try routed
      ?? route(
        MemoryView(input.tokens), mask: mask, noise: noise, isRecorded: true, execution: execution,
        workspace: &workspace)
    let (order, activations) = try run(
      input, local, sequenceLength: sequenceLength, isRecorded: recording.local.extent == .full,
      into: &output, workspace: &workspace, execution: execution, meanwhile: meanwhile)
    recording.local.record.update(
      from: order.routes, order.choices, mask: mask, loadBalance: configuration.routing.loadBalance)
    recording.pass = RecordedSpreadPass(
      identity: part.identity(of: input, execution), order: order,
      activations: recording.local.extent == .full ? activations : nil)
  }

  /// Routes the tokens of a recorded pass that is to follow, beside another one's exchange. No collective.
  ///
  /// - Parameters:
  ///   - input: of the pass.
  ///   - mask: of the pass.
  ///   - noise: of the pass.
  ///   - recording: to be passed to the pass.
  ///   - workspace: scratch.
  /// - Throws: as `MoELayer`; a token that cannot be routed is an error of the pass.
  public func route(
    _ input: Activations, mask: [Bool]? = nil, noise: RouterNoise? = nil,
    recording: inout ExpertParallelRecording, workspace: inout ExpertParallelWorkspace,
    execution: Execution? = nil
  ) throws {
    let execution = try execution ?? .automatic()
    try part.validate(input, mask: mask, output: input)
    try noise?.validate()
    recording.forget()
    workspace.exchange(with: &recording)
    defer { workspace.exchange(with: &recording) }
    recording.routed = try route(
      MemoryView(input.tokens), mask: mask, noise: noise, isRecorded: true, execution: execution,
      workspace: &workspace)
  }

  /// 1. Exchange how many tokens each rank has, and counts of choices: every choice gets its place among all rows of its
  ///    expert, or is dropped, as if one rank had the whole batch.
  /// 2. Exchange tokens: each goes once to every rank that has one of its experts.
  /// 3. Beside the first slice of them, compute the dense branch on this rank's tokens, if there is one, and the work of
  ///    the caller.
  /// 4. Compute this rank's experts on the rows of the whole batch, in its order, slice by slice.
  /// 5. Exchange rows: the row that was made of a choice goes back to the rank of its token.
  /// 6. Combine: add each token's rows in slot order, and the branch.
  private func run(
    _ input: Activations, _ local: LocalRoutes, sequenceLength: Int?, isRecorded: Bool,
    into output: inout Activations, workspace: inout ExpertParallelWorkspace, execution: Execution,
    meanwhile: () throws -> Void = {}
  ) throws -> (SpreadOrder, SpreadActivations) {
    let step = "the forward pass"
    let tokens = MemoryView(input.tokens)
    let order = try order(
      local, shape: (input.tokenCount, sequenceLength ?? input.sequenceLength), step: step,
      workspace: &workspace)
    var branch: NetworkTiles?
    let (slices, rows) = try expertRows(
      tokens, order, isRecorded: isRecorded, step: step, execution: execution, workspace: &workspace
    ) { workspace in
      branch = try part.applyBranch(
        tokens, isRecorded: isRecorded, execution: execution, workspace: &workspace.local)
      try meanwhile()
    }
    part.combine(
      rows!, order.choices, order.routes, areWeighted: exchange.returned == .partialSums, branch: branch,
      gates: order.gates, into: MemoryView(writing: &output.tokens), execution: execution)
    return (order, SpreadActivations(slices: slices, rows: rows, branch: branch))
  }
}

extension MoEConfiguration {
  /// The same with another F.
  func withFeedForwardSize(_ size: Int) throws(MoEError) -> MoEConfiguration {
    try MoEConfiguration(
      hiddenSize: hiddenSize, feedForwardSize: size, expertCount: expertCount,
      expertsPerToken: expertsPerToken,
      activation: activation, routing: routing, denseBranch: denseBranch)
  }
}
