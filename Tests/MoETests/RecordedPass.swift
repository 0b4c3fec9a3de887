import MoE
import MoECore
import MoEReference
import TestSupport

/// A recorded pass of a random layer, and the oracle's view of its routing.
struct RecordedPass: ~Copyable {
  let problem: LayerProblem
  let layer: MoELayer
  let execution: Execution
  var recording: Recording
  var workspace: Workspace

  init(_ layerCase: LayerCase, _ execution: Execution) throws {
    let problem = try layerCase.problem()
    let layer = try MoELayer(problem.configuration, weights: problem.weights)
    var recording = Recording()
    var workspace = Workspace()
    var output = problem.input
    try layer.forward(
      problem.input, mask: problem.mask, recording: &recording, into: &output, workspace: &workspace,
      execution: execution)
    (self.problem, self.layer, self.execution) = (problem, layer, execution)
    self.recording = recording
    self.workspace = workspace
  }

  var sequenceLength: Int { max(problem.input.sequenceLength, 1) }

  mutating func statistics(_ grouping: TokenGrouping) throws -> RouterStatistics {
    try layer.statistics(of: &recording, by: grouping, workspace: &workspace, execution: execution)
  }

  /// Returns the group of a token.
  static func group(of token: Int, _ grouping: TokenGrouping) -> Int {
    switch grouping {
    case .batch: 0
    case .sequence(let length): token / length
    case .position(let length): token % length
    }
  }

  /// Returns, [G], the number of tokens of each group that are not masked.
  func tokenCounts(_ grouping: TokenGrouping) -> [Int64] {
    var counts = [Int64](
      repeating: 0, count: grouping.groupCount(tokenCount: problem.input.tokenCount))
    for token in 0..<problem.input.tokenCount where problem.mask?[token] ?? true {
      counts[Self.group(of: token, grouping)] += 1
    }
    return counts
  }

  /// Returns each loss by name, as computed by the library and by the oracle for the experts that the kernel chose.
  mutating func losses() throws -> [(String, RouterLoss, Reference.RouterLoss)] {
    typealias Oracle = Reference.Losses
    let record = recording.record
    let (e, k, mask, length) = (record.expertCount, record.expertsPerToken, problem.mask, sequenceLength)
    let routing = routing
    let p = routing.scores
    let (counts, firsts) = (routing.counts, routing.firstChoiceCounts)
    let ofSequences = Oracle.counts(
      routing.expertIDs, expertCount: e, tokensPerGroup: length, of: .allChoices)
    let batch = record.statistics
    let sequences = try statistics(.sequence(length: length))
    let positions = try statistics(.position(length: length))
    let twice = try batch + batch
    let balance =
      record.loadBalance.choices == .first
      ? Oracle.switchTransformer(p, firstChoiceCounts: firsts, coefficient: 0.25, mask: mask)
      : Oracle.megatron(p, counts: counts, expertsPerToken: k, coefficient: 0.25, mask: mask)
    let z = Oracle.routerZ(routing.logSumExp, expertCount: e, coefficient: 0.5, mask: mask)
    let megatronSequence = Oracle.megatronSequence(
      p, counts: ofSequences, sequenceLength: length, expertsPerToken: k, coefficient: 0.5, mask: mask)
    return try [
      ("load balance", record.loadBalance(coefficient: 0.25), balance),
      ("z", record.zLoss(coefficient: 0.5), z),
      (
        "Switch", batch.switchTransformer(),
        Oracle.switchTransformer(p, firstChoiceCounts: firsts, mask: mask)
      ),
      ("GShard", positions.gshardTop2(), Oracle.gshardTop2(p, firstChoiceCounts: firsts, mask: mask)),
      (
        "DeepSpeed top-1", batch.deepSpeedTop1(),
        Oracle.deepSpeedTop1(p, firstChoiceCounts: firsts, mask: mask)
      ),
      (
        "DeepSpeed top-2", batch.deepSpeedTop2(),
        Oracle.deepSpeedTop2(p, firstChoiceCounts: firsts, mask: mask)
      ),
      (
        "DeepSpeed top-k", batch.deepSpeedTopK(),
        Oracle.deepSpeedTopK(p, counts: counts, expertsPerToken: k, mask: mask)
      ),
      (
        "Megatron", sequences.megatron(coefficient: 0.5),
        Oracle.megatron(p, counts: counts, expertsPerToken: k, coefficient: 0.5, mask: mask)
      ),
      (
        "Megatron global", batch.megatronGlobal(coefficient: 0.5, gathered: twice),
        Oracle.megatronGlobal(
          p, gatheredCounts: counts.map { 2 * $0 }, gatheredTokenCount: 2 * routing.routedTokenCount,
          expertsPerToken: k, coefficient: 0.5, mask: mask)
      ),
      ("Megatron sequence", sequences.megatronSequence(coefficient: 0.5), megatronSequence),
      (
        "DeepSeek-V3 sequence", sequences.deepSeekV3Sequence(),
        Oracle.deepSeekV3Sequence(
          p, counts: ofSequences, sequenceLength: length, expertsPerToken: k, mask: mask)
      ),
      ("importance", batch.importance(), Oracle.importance(p, mask: mask)),
      (
        "variance over tokens", sequences.variance(.overTokens, coefficient: 2),
        Oracle.varianceOverTokens(p, coefficient: 2, mask: mask)
      ),
      (
        "variance over positions", positions.variance(.seedPositional, coefficient: 2),
        Oracle.seedPositional(p, sequenceLength: length, coefficient: 2, mask: mask)
      ),
      (
        "a sum of groupings",
        record.loadBalance(coefficient: 0.25) + sequences.megatronSequence(coefficient: 0.5)
          + record.zLoss(coefficient: 0.5), balance + megatronSequence + z
      ),
    ]
  }

  /// The oracle's routing for the kernel's choices.
  var routing: Reference.Routing {
    Reference.decisions(
      of: recording.record,
      logits: Reference.logits(problem.input.tokens, problem.weights.routerWeights),
      policy: problem.configuration.routing
    ).routing
  }

  /// Checks that values and gradients agree within γ of the chains that lead to probabilities and ln Σ exp. The
  /// gradient of a variance is a difference of means of up to 1, and has their errors.
  func compare(_ name: String, _ loss: RouterLoss, _ exact: Reference.RouterLoss) throws {
    let bound = Tolerance.gamma(1000)
    let size = max(
      exact.probabilityGradient.joined().reduce(0) { max($0, abs($1)) }, 0x1p-20 * abs(exact.value))
    let floor = name.hasPrefix("variance") ? 0x1p-10 : 0x1p-20
    func agrees(_ actual: Double, _ expected: Double, _ size: Double) -> Bool {
      abs(actual - expected) <= bound * max(abs(expected), size, floor)
    }
    try ensure(agrees(loss.value, exact.value, size), "\(name): \(loss.value), expected \(exact.value)")
    let routing = routing
    for token in 0..<recording.record.tokenCount where !routing.expertIDs[token].contains(-1) {
      for expert in 0..<recording.record.expertCount {
        let found = loss.gradients.probability.reduce(0) { sum, term in
          sum + Double(term.values[Self.group(of: token, term.grouping), expert])
        }
        let expected = exact.probabilityGradient[token][expert]
        try ensure(agrees(found, expected, size), "\(name): dL/dP \(found), expected \(expected)")
      }
      let found = Double(loss.gradients.logSumExpFactor) * routing.logSumExp[token]
      try ensure(agrees(found, exact.logSumExpGradient[token], 0), "\(name): dL/dz \(found)")
    }
  }
}
