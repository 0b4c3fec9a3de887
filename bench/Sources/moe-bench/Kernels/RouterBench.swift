import CKernels
import MoE
import MoEReference

/// The fused router: logits, softmax, top-k and counts in one pass over the tokens.
enum RouterBench: KernelBench {
  static let name = "router"

  static func run(_ session: Session) throws {
    let tokenCount = session.isQuick ? 512 : 4096
    for hiddenSize in session.isQuick ? [512] : [512, 2048] {
      for expertCount in session.isQuick ? [64] : [8, 64, 128, 256] {
        for expertsPerToken in session.isQuick ? [2] : [1, 2, 8] {
          let problem = try RouterProblem(
            tokenCount: tokenCount, hiddenSize: hiddenSize, expertCount: expertCount,
            expertsPerToken: expertsPerToken, session)
          try time(problem, session)
        }
      }
    }
  }

  private static func time(_ problem: RouterProblem, _ session: Session) throws {
    let contenders = try session.instructionSets.map { instructionSet in
      let execution = session.execution(instructionSet)
      let scratch = try Buffer<UInt8>(
        moe_router_scratch_bytes(execution, Int64(problem.expertCount)))
      problem.route(execution, scratch)
      let error = try problem.error()
      try require(
        error, atMost: roundings(problem.hiddenSize + 32), "router \(problem.name) on \(instructionSet)")
      return Contender(
        name: instructionSet.rawValue,
        arithmetic: .init(instructionSet: instructionSet, precision: .float32), error: error,
        run: { problem.route(execution, scratch) })
    }
    try session.time(bench: name, problem: problem.name, work: problem.work, contenders)
  }
}

/// Tokens, a router, and the memory for the routes.
private final class RouterProblem {
  let tokenCount: Int
  let hiddenSize: Int
  let expertCount: Int
  let expertsPerToken: Int
  private let tokens: Matrix
  private let weights: RouterWeights
  private let panels: Buffer<UInt8>
  private let expertIDs: Buffer<Int32>
  private let expertWeights: Buffer<Float>
  private let margins: Buffer<Float>
  private let logSumExp: Buffer<Float>
  private let counts: Buffer<Int64>

  init(
    tokenCount: Int, hiddenSize: Int, expertCount: Int, expertsPerToken: Int, _ session: Session
  ) throws {
    self.tokenCount = tokenCount
    self.hiddenSize = hiddenSize
    self.expertCount = expertCount
    self.expertsPerToken = expertsPerToken
    var generator = SeededGenerator(seed: 3)
    tokens = .normal(rows: tokenCount, columns: hiddenSize, deviation: 1, using: &generator)
    let deviation = 1 / Float(hiddenSize).squareRoot()
    let weight = Matrix.normal(
      rows: expertCount, columns: hiddenSize, deviation: deviation, using: &generator)
    weights = RouterWeights(weight: weight)
    let panelCount = (expertCount + Int(MOE_PANEL) - 1) / Int(MOE_PANEL)
    panels = try Buffer(moe_panels_bytes(MOE_FLOAT32, Int64(panelCount), Int64(hiddenSize)))
    let packed = panels.base
    _ = weight.withUnsafeBufferPointer { elements in
      moe_pack_panels(
        session.bestExecution, MOE_FLOAT32, elements.baseAddress, Int64(expertCount), Int64(hiddenSize),
        packed, 1
      )
    }
    expertIDs = try Buffer(tokenCount * expertsPerToken)
    expertWeights = try Buffer(tokenCount * expertsPerToken)
    margins = try Buffer(tokenCount)
    logSumExp = try Buffer(tokenCount)
    counts = try Buffer(3 * expertCount)
  }

  var name: String { "T=\(tokenCount) D=\(hiddenSize) E=\(expertCount) K=\(expertsPerToken)" }

  /// The FLOPs of the logits; the bytes of tokens and weights that are read, and of routes that are written.
  var work: Work {
    let logits = Double(tokenCount * expertCount * hiddenSize)
    let elements = (tokenCount + expertCount) * hiddenSize + 2 * tokenCount * (expertsPerToken + 1)
    return Work(flops: 2 * logits, bytes: Double(4 * elements))
  }

  /// The policy: a single choice keeps its probability, as in Switch; several choices are divided by their sum, as in
  /// Mixtral.
  private var policy: RoutingPolicy { .softmaxTopK(normalized: expertsPerToken > 1) }

  func route(_ execution: moe_execution, _ scratch: Buffer<UInt8>) {
    var rule = moe_router_rule()
    rule.logit_scale = 1
    rule.scoring = MOE_SOFTMAX
    rule.normalization = expertsPerToken > 1 ? MOE_NORMALIZE_SUM_PLUS : MOE_NORMALIZE_NONE
    rule.scale = 1
    var written = moe_router_output()
    written.expert_ids = expertIDs.base
    written.weights = expertWeights.base
    written.margins = margins.base
    written.logsumexp = logSumExp.base
    written.counts = counts.base
    written.first_counts = counts.base + expertCount
    written.probability_sums = counts.base + 2 * expertCount
    tokens.withUnsafeBufferPointer { x in
      var input = moe_router_input()
      (input.T, input.E, input.K) = (Int64(tokenCount), Int64(expertCount), Int64(expertsPerToken))
      (input.x, input.D, input.panels) = (x.baseAddress, Int64(hiddenSize), UnsafePointer(panels.floats))
      _ = moe_router(execution, &rule, &input, &written, scratch.base)
    }
  }

  /// Returns the largest relative error of a weight over eight tokens. It is infinite if a chosen expert differs and
  /// rounding cannot explain the difference.
  func error() throws -> Double {
    let sample = (0..<8).map { $0 * (tokenCount - 1) / 7 }
    let rows = sample.flatMap { token in (0..<hiddenSize).map { tokens[token, $0] } }
    let x = try Matrix(rows: sample.count, columns: hiddenSize, elements: rows)
    let expected = try Reference.route(
      logits: Reference.logits(x, weights), policy: policy, expertsPerToken: expertsPerToken)
    var largest = 0.0
    for (index, token) in sample.enumerated() where expected.margins[index] > 1e-6 {
      for choice in 0..<expertsPerToken {
        let at = token * expertsPerToken + choice
        let expert = expected.expertIDs[index].firstIndex(of: Int(expertIDs[at]))
        guard let expert else { return .infinity }
        let weight = expected.weights[index][expert]
        largest = max(largest, abs(Double(expertWeights[at]) - weight) / weight)
      }
    }
    return largest
  }
}
