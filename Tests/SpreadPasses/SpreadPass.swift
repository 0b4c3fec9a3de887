public import ExpertParallel
public import LayerCases
public import MoE
public import MoECore

/// The results of two passes of a layer, forward and backward, that must be the same for any number of ranks.
public struct PassResult: Sendable {
  /// The bits of all tokens' output.
  public var output: [UInt32] = []
  /// The bits of dL/dinput.
  public var inputGradient: [UInt32] = []
  /// The routing of the tokens.
  public var record = RoutingRecord()
  /// The statistics of each grouping.
  public var statistics: [RouterStatistics] = []
  /// The value of the losses of these statistics.
  public var lossValue = 0.0
  /// The gradients of the parameters.
  public var gradients: MoEWeights

  fileprivate init(gradients: MoEWeights) { self.gradients = gradients }

  /// Returns a sentence about the first difference from the result of one rank; nil if there is none.
  public func difference(from one: PassResult) -> String? {
    if record != one.record { return "the records differ: \(record)\nexpected \(one.record)" }
    if output != one.output { return "the outputs differ" }
    if statistics != one.statistics { return "the statistics differ" }
    if lossValue != one.lossValue { return "the losses differ" }
    if inputGradient != one.inputGradient { return "the input gradients differ" }
    if gradients.routerWeights != one.gradients.routerWeights { return "the router's gradients differ" }
    for (index, expert) in gradients.experts.enumerated() where expert != one.gradients.experts[index] {
      return "the gradients of expert \(index) differ"
    }
    if gradients.denseGate != one.gradients.denseGate { return "the gradients of the dense gate differ" }
    if gradients.dense != one.gradients.dense { return "the dense gradients differ" }
    return nil
  }
}

/// A problem, the options of its passes, and the division of its tokens over ranks.
public struct SpreadPass: Sendable {
  let problem: LayerProblem
  let outputGradient: Activations
  let noise: RouterNoise
  let extent: Recording.Extent
  let precision: Precision
  let instructionSet: InstructionSet
  /// The rule by which gradients of shared parameters are added.
  public var gradientSum = ExpertParallelLayer.GradientSum.exact
  /// The ranks that hold each expert; nil for contiguous parts.
  public var placement: ExpertPlacement?
  /// The host of each rank; nil for one host.
  public var hosts: [Int]?
  /// The options for the exchange of rows.
  public var exchange: ExchangeOptions
  /// `[R + 1]`: the first token of each rank, followed by T.
  public let cuts: [Int]
  /// Whether each rank has whole sequences, so that losses of sequences and positions exist.
  let isAligned: Bool

  /// Makes the pass of a case on `ranks` ranks. In cases of even seeds the ranks have whole sequences, in odd seeds any
  /// tokens.
  public init(
    _ layerCase: LayerCase, ranks: Int, precision: Precision = .float32,
    instructionSet: InstructionSet = InstructionSet.supported.last!
  ) throws {
    problem = try layerCase.problem()
    outputGradient = Activations.random(problem.input.shape, seed: layerCase.seed &+ 9)
    noise = RouterNoise(seed: 1)
    extent = layerCase.seed % 3 == 0 ? .recompute : .full
    if layerCase.seed % 7 == 3 {
      placement = try .random(
        expertCount: problem.configuration.expertCount, rankCount: ranks, seed: layerCase.seed)
    }
    // With several hosts the exchange is hierarchical.
    if layerCase.seed % 4 == 1 { hosts = (0..<ranks).map { $0 * 2 / 3 } }
    exchange = ExchangeOptions(overlap: .slices([1, 2, 3, 5, 8][Int(layerCase.seed % 5)]))
    self.precision = precision
    self.instructionSet = instructionSet
    isAligned = layerCase.seed % 2 == 0
    var generator = SeededGenerator(seed: layerCase.seed ^ 0xC075)
    let units = isAligned ? layerCase.batchSize : layerCase.tokenCount
    // The cuts are random, so some ranks have no tokens.
    let inner = (1..<ranks).map { _ in Int(generator.next() % UInt64(units + 1)) }.sorted()
    let unit = isAligned ? layerCase.sequenceLength : 1
    cuts = ([0] + inner + [units]).map { $0 * unit }
  }

  private var groupings: [TokenGrouping] {
    let length = problem.input.sequenceLength
    return isAligned ? [.batch, .sequence(length: length), .position(length: length)] : [.batch]
  }

  private func loss(_ sums: [RouterStatistics]) throws -> RouterLoss {
    let batch = sums[0]
    let losses =
      batch.switchTransformer(coefficient: 0.5) + batch.importance() + batch.zLoss(coefficient: 0.125)
    guard sums.count > 1 else { return losses }
    return try losses + sums[1].deepSeekV3Sequence(coefficient: 0.25) + sums[2].variance(.seedPositional)
  }

  /// Runs the pass by `MoELayer`, without ranks.
  public func one() throws -> PassResult {
    let layer = try MoELayer(problem.configuration, weights: problem.weights, precision: precision)
    let execution = try Execution(instructionSet: instructionSet, threadCount: 2)
    var workspace = Workspace()
    var recording = Recording(extent)
    var (output, inputGradient) = (problem.input, problem.input)
    let gradients = try MoEGradients(for: layer)
    var result = PassResult(gradients: problem.weights)
    for _ in 0..<2 {
      try layer.forward(
        problem.input, mask: problem.mask, noise: noise, recording: &recording, into: &output,
        workspace: &workspace, execution: execution)
      result.statistics = []
      for grouping in groupings {
        result.statistics.append(
          try layer.statistics(of: &recording, by: grouping, workspace: &workspace, execution: execution))
      }
      let loss = try loss(result.statistics)
      try layer.backward(
        outputGradient, input: problem.input, recording: &recording, losses: loss.gradients,
        into: &inputGradient, gradients: gradients, workspace: &workspace, execution: execution)
      result.lossValue = loss.value
    }
    result.record = recording.record
    result.output = output.tokens.elements.map(\.bitPattern)
    result.inputGradient = inputGradient.tokens.elements.map(\.bitPattern)
    result.gradients = gradients.weights(of: layer)
    return result
  }

  /// Runs the pass on ranks, joins their results, and checks that results which several ranks have are the same.
  public func spread() throws -> PassResult {
    let parts = try LocalCommunicator.run(ranks: cuts.count - 1, hosts: hosts) { try self.rank($0) }
    var whole = parts[0].result
    let partCount = placement?.tensorParallelSize ?? 1
    // [E][shards]
    var experts: [[FeedForwardWeights?]] = Array(
      repeating: Array(repeating: nil, count: partCount), count: problem.configuration.expertCount)
    for (rank, part) in parts.enumerated() {
      let result = part.result
      if rank > 0 {
        whole.output += result.output
        whole.inputGradient += result.inputGradient
        whole.record = whole.record.followed(by: result.record)
      }
      try ensure(result.statistics == whole.statistics, "rank \(rank) has other statistics")
      try ensure(result.lossValue == whole.lossValue, "rank \(rank) has another loss")
      let shared = (result.gradients.routerWeights, result.gradients.dense, result.gradients.denseGate)
      let first = (whole.gradients.routerWeights, whole.gradients.dense, whole.gradients.denseGate)
      try ensure(shared == first, "rank \(rank) has other gradients of what is shared")
      for (expert, gradient) in zip(part.experts, result.gradients.experts) {
        let place = rank % partCount
        try ensure(
          experts[expert][place].map { $0 == gradient } ?? true, "the replicas of expert \(expert) differ")
        experts[expert][place] = gradient
      }
    }
    whole.gradients.experts = experts.map { FeedForwardWeights(parts: $0.map { $0! }) }
    return whole
  }

  /// Runs the part of one rank. A collective.
  ///
  /// - Returns: the experts of the rank, and its part of the result.
  public func rank(_ communicator: any Communicator) throws -> (experts: [Int], result: PassResult) {
    let tokens = cuts[communicator.rank]..<cuts[communicator.rank + 1]
    let layer = try ExpertParallelLayer(
      problem.configuration, weights: problem.weights, over: communicator, placement: placement,
      precision: precision, gradientSum: gradientSum, exchange: exchange)
    let execution = try Execution(
      instructionSet: instructionSet, threadCount: 1 + communicator.rank % 2)
    let (input, outputGradient) = (try part(problem.input, tokens), try part(self.outputGradient, tokens))
    let mask = problem.mask.map { Array($0[tokens]) }
    var noise = noise
    noise.firstToken = tokens.lowerBound
    var workspace = ExpertParallelWorkspace()
    var recording = ExpertParallelRecording(extent)
    var (output, inputGradient) = (input, input)
    let gradients = try layer.makeGradients()
    var result = PassResult(gradients: problem.weights)
    for _ in 0..<2 {
      try layer.forward(
        input, mask: mask, sequenceLength: problem.input.sequenceLength, noise: noise,
        recording: &recording, into: &output, workspace: &workspace, execution: execution)
      result.statistics = []
      for grouping in groupings {
        result.statistics.append(
          try layer.statistics(of: &recording, by: grouping, workspace: &workspace, execution: execution))
      }
      let loss = try loss(result.statistics)
      try layer.backward(
        outputGradient, input: input, recording: &recording, losses: loss.gradients,
        into: &inputGradient, gradients: gradients, workspace: &workspace, execution: execution)
      result.lossValue = loss.value
    }
    result.record = recording.record
    result.output = output.tokens.elements.map(\.bitPattern)
    result.inputGradient = inputGradient.tokens.elements.map(\.bitPattern)
    result.gradients = layer.weights(of: gradients)
    return (layer.localExperts, result)
  }

  /// Returns some tokens of a batch.
  private func part(_ whole: Activations, _ tokens: Range<Int>) throws -> Activations {
    let (length, hidden) = (whole.shape[1], whole.shape[2])
    return try Activations(
      shape: isAligned ? [tokens.count / length, length, hidden] : [tokens.count, hidden],
      tokens: whole.tokens.rows(tokens))
  }
}

extension ExpertPlacement {
  /// Places every expert on at least one rank, and at least one expert on every rank.
  public static func random(expertCount: Int, rankCount: Int, seed: UInt64) throws -> ExpertPlacement {
    var generator = SeededGenerator(seed: seed ^ 0x91ACE)
    var experts = [Set<Int>](repeating: [], count: rankCount)
    for expert in 0..<expertCount { experts[Int(generator.next() % UInt64(rankCount))].insert(expert) }
    for rank in 0..<rankCount where experts[rank].isEmpty || generator.next() % 3 == 0 {
      experts[rank].insert(Int(generator.next() % UInt64(expertCount)))
    }
    return try ExpertPlacement(expertCount: expertCount, experts: experts.map(Array.init))
  }
}

extension FeedForwardWeights {
  /// Joins a network from the shards of its F.
  fileprivate init(parts: [FeedForwardWeights]) {
    func rows(_ matrices: [Matrix]) throws -> Matrix {
      try Matrix(
        rows: matrices.reduce(0) { $0 + $1.rows }, columns: matrices[0].columns,
        elements: matrices.flatMap(\.elements))
    }
    let size = parts[0].up.rows
    var down = Matrix(rows: parts[0].down.rows, columns: size * parts.count)
    for row in 0..<down.rows {
      for column in 0..<down.columns { down[row, column] = parts[column / size].down[row, column % size] }
    }
    self.init(
      gate: parts[0].gate == nil ? nil : try! rows(parts.map { $0.gate! }), up: try! rows(parts.map(\.up)),
      down: down,
      gateBias: parts[0].gateBias == nil ? nil : parts.flatMap { $0.gateBias! },
      upBias: parts[0].upBias == nil ? nil : parts.flatMap { $0.upBias! }, downBias: parts[0].downBias)
  }
}
