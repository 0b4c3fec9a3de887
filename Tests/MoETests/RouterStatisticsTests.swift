import CKernels
import MoE
import MoECore
import TestSupport
import Testing

/// The kernels beside the router, between fences: sums over groups of tokens, and the jitter of its input.
@Suite struct RouterStatisticsTests {
  @Test(arguments: InstructionSet.supported)
  func groupsHaveTheSumsOfTheirTokens(_ instructionSet: InstructionSet) {
    var generator = SeededGenerator(seed: 1)
    for round in 0..<80 {
      let (t, e) = (generator.pick([0, 1, 7, 63, 64, 65, 200]), generator.pick([1, 3, 16, 17, 40]))
      let k = Int.random(in: 1...min(e, 3), using: &generator)
      let (runLength, groups) = generator.pick([(1, 1), (1, 7), (5, 60), (64, 4), (300, 1), (3, 2)])
      let logits = generator.normals(t * e, deviation: 2)
      let mask = (0..<t).map { _ in generator.next() % 5 != 0 }
      let execution = instructionSet.threads(threadCounts[round % 4])
      let policy = RoutingPolicy(scoring: .softmax)
      let call = RouterCall(
        .logits(logits, selectionBias: nil), tokenCount: t, expertCount: e, expertsPerToken: k,
        policy: policy, mask: mask, execution: execution)

      let (read, ids) = (Fenced(logits), Fenced(call.expertIDs))
      let tables = (0..<3).map { _ in Fenced<Int64>(count: groups * e) }
      let tokens = Fenced<Int64>(count: groups)
      let scratch = Fenced<UInt8>.scratch(moe_router_statistics_scratch_bytes(execution, Int64(e)))
      var rule = policy.rule
      var out = unsafe moe_router_statistics(
        tokens: tokens.base, counts: tables[0].base, first_counts: tables[1].base,
        probability_sums: tables[2].base)
      var routes = unsafe moe_routes(
        T: Int64(t), E: Int64(e), K: Int64(k), logits: read.base, expert_ids: ids.base, choice_row: nil)
      unsafe moe_router_statistics_of(
        execution, &rule, &routes, moe_token_grouping(run_length: Int64(runLength), groups: Int64(groups)),
        &out, scratch.raw)

      var expected = Array(repeating: [Int64](repeating: 0, count: groups * e), count: 3)
      var present = [Int64](repeating: 0, count: groups)
      for token in 0..<t where mask[token] {
        let group = token / runLength % groups
        present[group] += 1
        expected[1][group * e + Int(call.expertIDs[token * k])] += 1
        for choice in 0..<k { expected[0][group * e + Int(call.expertIDs[token * k + choice])] += 1 }
        for expert in 0..<e {
          let units = Double(call.scores[token * e + expert]) * 0x1p30
          expected[2][group * e + expert] += Int64(units.rounded(.toNearestOrAwayFromZero))
        }
      }
      #expect(tokens.elements == present, "round \(round)")
      // A half is added in fp32, and that sum may round up to the next integer.
      for table in 0..<3 {
        let difference = zip(tables[table].elements, expected[table]).map { abs($0 - $1) }.max() ?? 0
        #expect(difference <= (table == 2 ? Int64(t) : 0), "table \(table) of round \(round)")
      }
      #expect((tables + [tokens]).allSatisfy { $0.fencesIntact && $0.unwrittenCount == 0 })
      #expect(read.fencesIntact && ids.fencesIntact && scratch.fencesIntact)
      if groups == 1 { #expect(tables[2].elements == call.probabilitySums) }
    }
  }

  @Test func jitterIsUniformAndOfItsTokenAlone() {
    let (t, d, epsilon) = (50, 37, Float(0.25))
    var generator = SeededGenerator(seed: 2)
    let x = Fenced(generator.normals(t * d, deviation: 1))
    var first: [Float] = []
    for threads in threadCounts {
      let execution = InstructionSet.scalar.threads(threads)
      let out = Fenced<Float>(count: t * d)
      unsafe moe_router_jitter(
        execution, x.base, Int64(t), Int64(d), Self.noise(firstToken: 10, jitter: epsilon), false, out.base)
      #expect(out.fencesIntact && x.fencesIntact && out.unwrittenCount == 0)
      if first.isEmpty { first = out.elements }
      #expect(bits(out.elements) == bits(first))
      // The last 20 tokens as a separate batch, added to the existing sums.
      let part = Fenced([Float](repeating: 0, count: 20 * d))
      unsafe moe_router_jitter(
        execution, x.base + 30 * d, 20, Int64(d), Self.noise(firstToken: 40, jitter: epsilon), true, part.base
      )
      #expect(part.elements == Array(first[(30 * d)...]) && part.fencesIntact)
    }
    let draws = zip(first, x.elements).map { (Double($0) / Double($1) - 1) / Double(epsilon) }
    #expect(draws.allSatisfy { abs($0) < 1.000_01 })
    // Means of v and v² for v uniform in (−1, 1): 0 and 1/3, with deviations √(1/3n) and √(4/45n).
    let count = Double(draws.count)
    #expect(abs(draws.reduce(0, +) / count) < 5 * (1 / (3 * count)).squareRoot())
    #expect(abs(draws.reduce(0) { $0 + $1 * $1 } / count - 1.0 / 3) < 5 * (4 / (45 * count)).squareRoot())
    #expect(Set(draws).count > draws.count * 9 / 10)
  }

  private static func noise(firstToken: UInt64, jitter: Float = 0, dropout: Float = 0) -> moe_input_noise {
    moe_input_noise(seed: 3, first_token: firstToken, jitter: jitter, dropout: dropout)
  }

  /// About the given share of the elements is zeroed, others in other tokens and columns, and the mean stays.
  @Test func dropoutZeroesItsShare() {
    let (t, d) = (64, 50)
    let x = Fenced([Float](repeating: 1, count: t * d))
    let out = Fenced<Float>(count: t * d)
    unsafe moe_router_jitter(
      InstructionSet.scalar.threads(2), x.base, Int64(t), Int64(d), Self.noise(firstToken: 0, dropout: 0.25),
      false, out.base)
    let zeros = out.elements.count { $0 == 0 }
    // The deviation of a count of n = 3200 draws of probability ¼ is √(3n/16) = 24.5.
    #expect(abs(Double(zeros) - 800) < 5 * 24.5)
    #expect(out.elements.allSatisfy { $0 == 0 || $0 == 1 / Float(0.75) })
    #expect(
      Set((0..<t).map { token in out.elements[token * d..<(token + 1) * d].map { $0 == 0 } }).count == t)
  }
}
