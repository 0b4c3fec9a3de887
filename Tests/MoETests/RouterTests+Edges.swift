import CKernels
import MoE
import MoECore
import MoEReference
import TestSupport
import Testing

/// Edge cases that random logits do not reach.
extension RouterTests {
  static let scorings: [RoutingPolicy.Scoring] = [
    .softmax, .sigmoid, .softmaxOverSelected, .sigmoidOfSelected, .sparseMixer(jitter: 0.01),
  ]

  private func route(
    _ logits: [[Float]], _ policy: RoutingPolicy, k: Int, mask: [Bool]? = nil, _ execution: moe_execution
  ) -> RouterCall {
    RouterCall(
      .logits(logits.flatMap { $0 }, selectionBias: nil), tokenCount: logits.count,
      expertCount: logits.first?.count ?? 3, expertsPerToken: k, policy: policy, mask: mask,
      execution: execution)
  }

  /// A token with a NaN or +∞ logit, or with no logit above −∞, has no route. The error names the first of several such
  /// tokens, for any order of the threads. A masked token is not checked.
  @Test(arguments: InstructionSet.supported)
  func firstBadTokenIsNamed(_ isa: InstructionSet) {
    let none = -Float.infinity
    for expertCount in [1, 3, 16, 17, 40] {
      let good = Array(repeating: Float(0.5), count: expertCount)
      var nan = good
      nan[expertCount - 1] = .nan
      var infinite = good
      infinite[0] = .infinity
      let hopeless = Array(repeating: none, count: expertCount)
      for bad in [nan, infinite, hopeless] {
        for places in [[0], [200], [47, 48, 150], [96, 199]] {
          var logits = Array(repeating: good, count: 201)
          for place in places { logits[place] = bad }
          var mask = Array(repeating: true, count: 201)
          mask[places[0]] = false
          for threads in threadCounts {
            let call = route(logits, RoutingPolicy(scoring: .softmax), k: 1, isa.threads(threads))
            #expect(call.bad == places[0] && call.isClean, "\(places), \(threads) threads")
            let masked = route(
              logits, RoutingPolicy(scoring: .softmax), k: 1, mask: mask, isa.threads(threads))
            #expect(masked.bad == (places.count > 1 ? places[1] : -1) && masked.isClean)
          }
        }
      }
    }
  }

  /// Two threads find bad tokens, one at the end of the first block and one at the start of the second block, which is
  /// found much earlier.
  @Test(arguments: InstructionSet.supported)
  func laterBadTokenFoundEarlierIsNotNamed(_ isa: InstructionSet) {
    var logits = Array(repeating: Array(repeating: Float(0.5), count: 257), count: 96)
    (logits[47][256], logits[48][0]) = (.nan, .nan)
    for _ in 0..<50 {
      #expect(route(logits, RoutingPolicy(scoring: .sigmoid), k: 8, isa.threads(2)).bad == 47)
    }
  }

  /// A NaN or infinity anywhere in a token, or an overflow of its logit, affects only that token.
  @Test(arguments: InstructionSet.supported, [1, 16, 17, 33, 600])
  func badInputIsFoundInAnyColumn(_ isa: InstructionSet, _ hiddenSize: Int) {
    var generator = SeededGenerator(seed: 5)
    let good = Matrix.normal(rows: 60, columns: hiddenSize, deviation: 1, using: &generator)
    let weight = Matrix.normal(rows: 5, columns: hiddenSize, deviation: 1, using: &generator)
    for column in Set([0, hiddenSize / 2, hiddenSize - 1]) {
      for (token, value) in [(0, Float.nan), (47, .infinity), (50, -.infinity)] {
        var x = good
        x[token, column] = value
        let call = RouterCall(
          .tokens(x, RouterWeights(weight: weight)), tokenCount: 60, expertCount: 5, expertsPerToken: 2,
          policy: RoutingPolicy(scoring: .softmax), execution: isa.threads(2))
        #expect(call.bad == token && call.isClean, "\(value) in column \(column) of token \(token)")
      }
    }
  }

  /// An expert at −∞ is chosen last, by index, and has weight 0. The margin between two such experts is 0.
  @Test(arguments: InstructionSet.supported, scorings)
  func impossibleExpertsWeighNothing(_ isa: InstructionSet, _ scoring: RoutingPolicy.Scoring) throws {
    let none = -Float.infinity
    let logits: [[Float]] = [[none, 1, none, 2, none], [3, none, none, none, none], [0, 1, 2, 3, 4]]
    for normalization in [RoutingPolicy.Normalization.none, .sum(plus: 0), .sumAtLeast(0.25)] {
      let policy = RoutingPolicy(scoring: scoring, normalization: normalization)
      for k in 1...5 {
        let call = route(logits, policy, k: k, isa.threads(1))
        let expected = try Reference.route(
          logits: logits.map { $0.map(Double.init) }, policy: policy, expertsPerToken: k)
        #expect(call.expertIDs.map(Int.init) == expected.expertIDs.flatMap { $0 })
        for (weight, exact) in zip(call.weights, expected.weights.flatMap { $0 }) {
          #expect(abs(Double(weight) - exact) <= 0x1p-20 * exact, "\(call.weights), \(expected.weights)")
        }
        for (margin, exact) in zip(call.margins, expected.margins) {
          #expect(Double(margin) == exact || abs(Double(margin) - exact) <= 0x1p-20)
        }
      }
    }
  }

  /// The two groups tie at −∞, the lower group wins, although none of its experts has a finite logit.
  @Test(arguments: InstructionSet.supported, scorings.dropLast())
  func groupOfImpossibleExperts(_ isa: InstructionSet, _ scoring: RoutingPolicy.Scoring) throws {
    let none = -Float.infinity
    let policy = RoutingPolicy(
      scoring: scoring,
      groups: .init(count: 2, selected: 1, score: .topTwoSum, mask: .negativeInfinity))
    let logits = [none, none, 5, none]
    let expected = try Reference.route(
      logits: [logits.map(Double.init)], policy: policy, expertsPerToken: 2)
    let call = route([logits], policy, k: 2, isa.threads(1))
    #expect(call.expertIDs.map(Int.init) == expected.expertIDs[0])
    for (weight, exact) in zip(call.weights, expected.weights[0]) {
      #expect(abs(Double(weight) - exact) <= 0x1p-20 * exact, "\(call.weights), \(expected.weights)")
    }
  }

  /// K = E: every expert once, best first; no margin.
  @Test(arguments: InstructionSet.supported, [1, 2, 16, 17])
  func allExpertsMayBeChosen(_ isa: InstructionSet, _ expertCount: Int) {
    let logits = (0..<expertCount).map { Float($0 * 7 % expertCount) / 4 }
    let call = route([logits], .softmaxTopK(normalized: true), k: expertCount, isa.threads(1))
    let order = (0..<expertCount).sorted { logits[$0] > logits[$1] }
    #expect(call.expertIDs.map(Int.init) == order)
    #expect(call.margins == [.infinity])
    #expect(abs(call.weights.reduce(0, +) - 1) < 0x1p-20)
  }

  /// For equal logits anywhere in the row, the lower index is chosen, in every lane of every vector.
  @Test(arguments: InstructionSet.supported)
  func tiesGoToTheLowerIndex(_ isa: InstructionSet) {
    for expertCount in [2, 8, 9, 16, 17, 33, 128, 257] {
      var generator = SeededGenerator(seed: UInt64(expertCount))
      let logits = (0..<100).map { _ in (0..<expertCount).map { _ in Float(generator.next() % 3) } }
      let k = min(expertCount, 6)
      for scoring in Self.scorings {
        let call = route(logits, RoutingPolicy(scoring: scoring), k: k, isa.threads(2))
        let expected = logits.flatMap { row in
          row.indices.sorted { row[$0] != row[$1] ? row[$0] > row[$1] : $0 < $1 }.prefix(k)
        }
        #expect(call.expertIDs.map(Int.init) == expected, "\(scoring), \(expertCount) experts")
      }
    }
  }

  @Test(arguments: InstructionSet.supported)
  func noTokensAreNoWork(_ isa: InstructionSet) {
    let call = route([], .topKSoftmax, k: 2, isa.threads(2))
    #expect(call.bad == -1 && call.isClean && call.counts == [0, 0, 0])
  }

  /// All outputs except ids and weights are optional.
  @Test(arguments: InstructionSet.supported)
  func optionalOutputsMayBeLeftOut(_ isa: InstructionSet) {
    let logits = Fenced<Float>([1, 2, 3, 6, 5, 4])
    let (ids, weights) = (Fenced<Int32>(count: 4), Fenced<Float>(count: 4))
    let scratch = Fenced.scratch(moe_router_scratch_bytes(isa.threads(1), 3))
    var (rule, out) = unsafe (RoutingPolicy.topKSoftmax.rule, moe_router_output())
    unsafe (out.expert_ids, out.weights) = unsafe (ids.base, weights.base)
    for mask in [nil, Fenced<UInt8>([1, 0])] {
      var input = unsafe moe_router_input()
      unsafe (input.T, input.E, input.K) = (2, 3, 2)
      unsafe (input.logits, input.mask) = unsafe (UnsafePointer(logits.base), UnsafePointer(mask?.base))
      let bad = unsafe moe_router(isa.threads(1), &rule, &input, &out, scratch.raw)
      #expect(bad == -1)
      #expect(ids.elements == (mask == nil ? [2, 1, 0, 1] : [2, 1, -1, -1]))
    }
    #expect(logits.fencesIntact && ids.fencesIntact && weights.fencesIntact && scratch.fencesIntact)
  }
}
