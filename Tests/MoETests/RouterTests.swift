import CKernels
import MoE
import MoECore
import MoEReference
import TestSupport
import Testing

/// The router against the oracle: all outputs, for random policies, sizes at the edges of its tiles and blocks of 48
/// tokens, and every temperament.
@Suite struct RouterTests {
  static let tokenCounts = [1, 2, 11, 12, 13, 47, 48, 49, 97]
  static let expertCounts = [1, 2, 7, 8, 15, 16, 17, 33, 128, 257]
  static let hiddenSizes = [1, 2, 15, 16, 17, 31, 32, 33, 63, 512, 513]

  /// Returns a layer case whose experts are as small as possible.
  static func routerCase(seed: UInt64) -> LayerCase {
    var generator = SeededGenerator(seed: seed)
    let expertCount = generator.pick(expertCounts)
    var routerCase = LayerCase(
      seed: seed, tokenCount: generator.pick(tokenCounts), expertCount: expertCount,
      expertsPerToken: Int.random(in: 1...min(expertCount, 8), using: &generator),
      hiddenSize: generator.pick(hiddenSizes), feedForwardSize: 1,
      temperament: generator.pick(Temperament.allCases), activation: .relu)
    routerCase.policy =
      .random(
        expertCount: expertCount, expertsPerToken: routerCase.expertsPerToken, using: &generator
      ).deterministic
    // Without this limit, half of the large cases would cost as much as all small ones.
    if expertCount > 100, routerCase.hiddenSize > 100 { routerCase.sequenceLength = 13 }
    routerCase.hasBiases = Bool.random(using: &generator)
    routerCase.hasSelectionBias = routerCase.policy.comparesBiasedScores && Bool.random(using: &generator)
    routerCase.isMasked = generator.next() % 4 == 0
    return routerCase
  }

  @Test func tokensAreRoutedAsTheOracleRoutes() {
    checkProperty(seeds: 0..<400, of: Self.routerCase(seed:)) { routerCase in
      let problem = try routerCase.problem()
      let router = problem.weights.routerWeights
      let logits = Reference.logits(problem.input.tokens, router)
      let x = problem.input.tokens
      let errors = (0..<x.rows).map { token in
        (0..<routerCase.expertCount).map { expert in
          var magnitude = Double(abs(router.bias?[expert] ?? 0))
          for d in 0..<x.columns { magnitude += abs(Double(x[token, d]) * Double(router.weight[expert, d])) }
          return Tolerance.fmaChain(x.columns + 1, magnitude: magnitude)
        }.max()!
      }
      try Self.check(
        routerCase, .tokens(x, router), logits: logits, errors: errors, mask: problem.mask,
        selectionBias: router.selectionBias)
    }
  }

  /// Compares routes from logits. Logits are exact, so the bounds are a few units in the last place. Some logits are
  /// −∞.
  @Test func logitsAreRoutedAsTheOracleRoutes() {
    checkProperty(seeds: 0..<1000, of: Self.routerCase(seed:)) { routerCase in
      var generator = SeededGenerator(seed: routerCase.seed ^ 0x1061)
      let (t, e) = (routerCase.tokenCount, routerCase.expertCount)
      let deviation: Float = generator.pick([1, 1, 1e-12, 20, 1e4])
      var logits = generator.normals(t * e, deviation: deviation)
      if routerCase.temperament == .ties { logits = logits.map { $0.rounded() } }
      if routerCase.temperament == .emptyExpert {
        for index in logits.indices where index % e != index / e % e && generator.next() % 3 == 0 {
          logits[index] = -.infinity
        }
      }
      let selectionBias =
        routerCase.hasSelectionBias && routerCase.policy.comparesBiasedScores
        ? generator.normals(e, deviation: 0.5) : nil
      let mask = routerCase.isMasked ? (0..<t).map { _ in generator.next() % 4 != 0 } : nil
      let rows = (0..<t).map { token in logits[token * e..<(token + 1) * e].map(Double.init) }
      try Self.check(
        routerCase, .logits(logits, selectionBias: selectionBias), logits: rows,
        errors: Array(repeating: 0, count: t), mask: mask, selectionBias: selectionBias)
    }
  }

  private static func check(
    _ routerCase: LayerCase, _ input: RouterCall.Input, logits: [[Double]], errors: [Double], mask: [Bool]?,
    selectionBias: [Float]?
  ) throws {
    let expected = try Reference.route(
      logits: logits, policy: routerCase.policy, selectionBias: selectionBias,
      expertsPerToken: routerCase.expertsPerToken, expertCount: routerCase.expertCount, mask: mask)
    let bounds = zip(logits, errors).map {
      RouterBounds(
        logits: $0, logitError: $1, policy: routerCase.policy, selectionBias: selectionBias)
    }
    for isa in InstructionSet.supported {
      let calls = threadCounts.map { threads in
        RouterCall(
          input, tokenCount: routerCase.tokenCount, expertCount: routerCase.expertCount,
          expertsPerToken: routerCase.expertsPerToken, policy: routerCase.policy, mask: mask,
          execution: isa.threads(threads))
      }
      try ensure(calls.allSatisfy(\.isClean), "a store is missing or outside on \(isa)")
      try ensure(
        calls.allSatisfy { $0.hasSameBits(as: calls[0]) }, "threads change the bits on \(isa)")
      try ensure(calls[0].bad == -1, "token \(calls[0].bad) is refused on \(isa)")
      do {
        try RouterJudge(call: calls[0], expected: expected, bounds: bounds, mask: mask).check()
      } catch { throw Counterexample("\(isa): \(error)") }
    }
  }
}
