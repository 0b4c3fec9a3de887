import MoECore
import MoEPlan
import Testing

/// How a token's experts are drawn, and how that becomes chances, rows and drops.
@Suite struct ChoiceTests {
  @Test func equalChancesAreHypergeometric() {
    let model = ChoiceModel(chances: Array(repeating: 0.25, count: 8), expertsPerToken: 2)
    let kept = [Double](repeating: 1, count: 8)
    // None of 2 of 8: 6·5/(8·7); none of 4: 4·3/(8·7).
    #expect(isClose(model.chance(ofAny: 0..<2, kept: kept), 1 - 30.0 / 56))
    #expect(isClose(model.chance(ofAny: 3..<7, kept: kept), 1 - 12.0 / 56))
    #expect(isClose(model.chance(ofAny: 0..<8, kept: kept), 1))
    #expect(model.chance(ofAny: 4..<4, kept: kept) == 0)
    // One choice of two is kept with probability ½: 2/8 of one alone, of which half.
    #expect(isClose(model.chance(ofAny: 0..<1, kept: kept.map { $0 / 2 }), 0.125))
  }

  @Test func chancesOfThreeByHand() {
    // Pairs of 3 experts with chances 0.9, 0.6 and 0.5: 01 has 1 − 0.5, 02 has 1 − 0.6, 12 has 1 − 0.9.
    let model = ChoiceModel(chances: [0.9, 0.6, 0.5], expertsPerToken: 2)
    let kept = [1.0, 1, 1]
    for (expert, chance) in [0.9, 0.6, 0.5].enumerated() {
      #expect(abs(model.chance(ofAny: expert..<expert + 1, kept: kept) - chance) < 1e-9)
    }
    // With all choices of expert 0 dropped, a token has one of 0 and 1 where it has 1.
    #expect(abs(model.chance(ofAny: 0..<2, kept: [0, 1, 1]) - 0.6) < 1e-9)
  }

  @Test func certainAndImpossibleExperts() {
    let model = ChoiceModel(chances: [1, 0, 0.5, 0.5], expertsPerToken: 2)
    let kept = [1.0, 1, 1, 1]
    #expect(isClose(model.chance(ofAny: 0..<1, kept: kept), 1))
    #expect(isClose(model.chance(ofAny: 1..<2, kept: kept), 0))
    #expect(isClose(model.chance(ofAny: 2..<3, kept: kept), 0.5))
    #expect(isClose(model.chance(ofAny: 2..<4, kept: kept), 1))
    let all = ChoiceModel(chances: [1, 1, 1], expertsPerToken: 3)
    #expect(isClose(all.chance(ofAny: 1..<2, kept: [1, 0.25, 1]), 0.25))
  }

  @Test(arguments: [(16, 4, 0.8), (64, 8, 1.1), (40, 1, 0.5), (128, 6, 0)])
  func drawnTokensAgree(_ experts: Int, _ top: Int, _ exponent: Double) throws {
    let chances = try LoadTrace.zipf(exponent: exponent, seed: 3).chances(
      expertCount: experts, expertsPerToken: top)[0]
    #expect(isClose(chances.reduce(0, +), Double(top)))
    let model = ChoiceModel(chances: chances, expertsPerToken: top)
    let kept = [Double](repeating: 1, count: experts)
    for expert in 0..<experts {
      #expect(abs(model.chance(ofAny: expert..<expert + 1, kept: kept) - chances[expert]) < 1e-9)
    }
    let count = 40_000
    let parts = (0..<4).map { $0 * experts / 4..<($0 + 1) * experts / 4 }
    var generator = SeededGenerator(seed: 7)
    var hits = [Int](repeating: 0, count: 4)
    for _ in 0..<count {
      let drawn = model.draw(using: &generator)
      #expect(drawn.count == top && Set(drawn).count == top)
      for (index, part) in parts.enumerated() where drawn.contains(where: part.contains) { hits[index] += 1 }
    }
    for (index, part) in parts.enumerated() {
      // Five standard deviations of a share of so many draws are at most 2.5/√count.
      let share = Double(hits[index]) / Double(count)
      #expect(abs(share - model.chance(ofAny: part, kept: kept)) < 2.5 / Double(count).squareRoot())
    }
  }

  @Test func rowsAddUpAndDropsAreWhatACapacityLeaves() throws {
    let chances = try LoadTrace.zipf(exponent: 1, seed: 1).chances(expertCount: 16, expertsPerToken: 2)[0]
    var step = Workload(tokenCount: 4000)
    let drawn = ExpectedRows(step, chances: chances, expertsPerToken: 2, groupCount: 4)
    #expect(drawn.dropRate == 0)
    for rows in drawn.rows { #expect(isClose(rows.reduce(0, +), 2000)) }
    #expect(drawn.rows[0] != drawn.rows[1], "each group draws")
    step.capacityFactor = 1.25
    let limited = ExpectedRows(step, chances: chances, expertsPerToken: 2, groupCount: 4)
    let totals = (0..<16).map { expert in drawn.rows.reduce(0) { $0 + $1[expert] } }
    // 1.25·4000·2/16 rows of each.
    let dropped = totals.reduce(0) { $0 + max($1 - 625, 0) }
    #expect(isClose(limited.dropRate, dropped / 8000))
    #expect(isClose(limited.rows.joined().reduce(0, +), 8000 - dropped))
    #expect((0..<16).allSatisfy { expert in limited.rows.reduce(0) { $0 + $1[expert] } <= 625 + 1e-6 })
  }

  @Test func slicesAreAboutEqualAndComplete() {
    for rows in [[10.0, 0, 30, 20], [64, 64, 64, 64], [1, 0, 0, 0], [0, 0], [100]] {
      for count in [1, 2, 4, 8] {
        let shares = RowSlices(rows, count: count).shares
        #expect(shares.count == count)
        for expert in rows.indices {
          #expect(isClose(shares.reduce(0) { $0 + $1[expert] }, 1), "\(rows) in \(count)")
        }
      }
    }
    // Cuts at the experts' ends, as these are where they should be.
    #expect(RowSlices([64, 64, 64, 64], count: 2).shares == [[1, 1, 0, 0], [0, 0, 1, 1]])
    #expect(RowSlices([100], count: 4).shares == Array(repeating: [0.25], count: 4))
  }

  @Test func balancedPlacementSpreadsTheLoad() {
    let chances = [0.8, 0.6, 0.2, 0.1, 0.2, 0.1]
    let order = ExpertOrder(.balanced, chances: chances, partCount: 3)
    #expect(order.experts.sorted() == Array(0..<6))
    #expect(
      order.parts.map { $0.map { order.experts[$0] } } == [[0, 3], [1, 5], [4, 2]]
        || order.parts.map { $0.reduce(0) { $0 + chances[order.experts[$1]] } }.max()! < 0.95)
    #expect(ExpertOrder(.contiguous, chances: chances, partCount: 4).parts.map(\.count) == [1, 2, 1, 2])
  }

  @Test func measuredLoadsAreChecked() throws {
    func complaint(_ loads: [[Double]], experts: Int = 4, top: Int = 2) -> String {
      do {
        _ = try LoadTrace.measured(loads).chances(expertCount: experts, expertsPerToken: top)
        return ""
      } catch { return "\(error)" }
    }
    #expect(complaint([[1, 1, 1, 1]]) == "")
    #expect(complaint([]).contains("no layer"))
    #expect(complaint([[1, 1, 1]]).contains("3 experts, expected the model's 4"))
    #expect(complaint([[1, 1, 1, -1]]).contains("-1.0 choices"))
    #expect(complaint([[1, 1, 1, .nan]]).contains("nan choices"))
    #expect(complaint([[0, 0, 0, 0]]).contains("no choices"))
    #expect(
      complaint([[1, 1, 1, 1], [7, 1, 1, 1]]).contains("layer 1 of the measured load gives expert 0 7 of 10"))
    #expect(throws: PlanError.self) {
      try LoadTrace.zipf(exponent: -1, seed: 1).chances(expertCount: 4, expertsPerToken: 1)
    }
  }
}
