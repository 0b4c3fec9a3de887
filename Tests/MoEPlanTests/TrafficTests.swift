import MoECore
import MoEPlan
import Testing

/// Expected bytes beside counted ones.
@Suite struct TrafficTests {
  /// Draws tokens, sends each to the ranks that have its experts, and counts the bytes that leave a rank and a host.
  @Test(arguments: [
    (Split(expertParallel: 4), 2, 2), (Split(expertParallel: 4, dataParallel: 2), 4, 2),
    (Split(expertParallel: 2, dataParallel: 2, tensorParallel: 2), 2, 4),
    (Split(expertParallel: 3, dataParallel: 2), 2, 3), (Split(expertParallel: 6), 3, 2),
  ])
  func brute(_ split: Split, _ hosts: Int, _ ranks: Int) throws {
    let (experts, top, tokens, hidden) = (12, 3, 3000, 8)
    let shape = try model(experts: experts, top: top, hidden: hidden, inner: 16)
    let load = LoadTrace.zipf(exponent: 0.7, seed: 5)
    let machines = try cluster(hosts: hosts, ranks: ranks)
    let count = split.rankCount
    let step = workload(tokens: tokens * count, trains: false)
    let predicted = try Planner(model: shape, workload: step, cluster: machines, load: load).predict(split)

    let chances = try load.chances(expertCount: experts, expertsPerToken: top)[0]
    let choices = ChoiceModel(chances: chances, expertsPerToken: top)
    let group = split.expertParallel * split.tensorParallel
    var generator = SeededGenerator(seed: 11)
    var bytes = (tokens: (inside: 0, between: 0), rows: (inside: 0, between: 0))
    for source in 0..<count {
      for _ in 0..<tokens {
        let drawn = choices.draw(using: &generator)
        for rank in source / group * group..<(source / group + 1) * group where rank != source {
          let part = rank % group / split.tensorParallel
          let held = part * experts / split.expertParallel..<(part + 1) * experts / split.expertParallel
          let rows = drawn.count(where: held.contains)
          let isInside = rank / ranks == source / ranks
          bytes.tokens.inside += isInside && rows > 0 ? 4 * hidden : 0
          bytes.tokens.between += !isInside && rows > 0 ? 4 * hidden : 0
          bytes.rows.inside += isInside ? 4 * hidden * rows : 0
          bytes.rows.between += isInside ? 0 : 4 * hidden * rows
        }
      }
    }
    for (expected, counted) in [
      (predicted.traffic[.tokens].inside, bytes.tokens.inside),
      (predicted.traffic[.tokens].between, bytes.tokens.between),
      (predicted.traffic[.rows].inside, bytes.rows.inside),
      (predicted.traffic[.rows].between, bytes.rows.between),
    ] {
      // Some 10 000 draws at least: 3 % are more than five standard deviations of their sum.
      #expect(abs(expected - Double(counted)) <= 0.03 * Double(counted), "\(split): \(expected), \(counted)")
    }
  }

  @Test func slicesAndRoutesMoveTheSameBytes() throws {
    let planner = try Planner(
      model: model(experts: 16, top: 4), workload: Workload(tokenCount: 1000),
      cluster: cluster(hosts: 4, ranks: 2), load: .zipf(exponent: 1, seed: 2))
    let one = try planner.predict(Split(expertParallel: 4, dataParallel: 2))
    for slices in [2, 4, 8] {
      let several = try planner.predict(Split(expertParallel: 4, dataParallel: 2, overlap: slices))
      for kind in TrafficSummary.Kind.allCases where kind != .counts {
        #expect(isClose(one.traffic[kind].between, several.traffic[kind].between))
        #expect(isClose(one.traffic[kind].inside, several.traffic[kind].inside))
      }
    }
    var direct = planner
    direct.route = .direct
    #expect(try direct.predict(one.split).traffic == one.traffic)
  }

  @Test func oneRankSendsNothing() throws {
    let planner = try Planner(
      model: model(layers: 3), workload: Workload(tokenCount: 100), cluster: cluster(hosts: 1), load: .uniform
    )
    let prediction = try planner.predict(Split(expertParallel: 1))
    #expect(prediction.traffic.between == 0 && prediction.traffic.inside == 0)
    #expect(prediction.traffic.busiestRank == 0)
    #expect(prediction.seconds("announce") < 1e-9 && prediction.seconds("gradient sums") == 0)
    #expect(prediction.overlapEfficiency == nil)
  }

  /// A payload of two bytes halves what rows and tokens need, and a capacity takes away what it drops.
  @Test func payloadAndCapacity() throws {
    func traffic(_ change: (inout Workload) -> Void) throws -> Prediction {
      var step = workload(tokens: 1600, trains: false)
      change(&step)
      return try Planner(
        model: model(experts: 16, top: 1), workload: step, cluster: cluster(hosts: 4),
        load: .zipf(exponent: 1, seed: 2)
      ).predict(Split(expertParallel: 4))
    }
    let plain = try traffic { _ in }
    let narrow = try traffic { $0.payloadBytes = 2 }
    #expect(isClose(narrow.traffic[.rows].between * 2, plain.traffic[.rows].between))
    #expect(isClose(narrow.traffic[.tokens].between * 2, plain.traffic[.tokens].between))
    let limited = try traffic { $0.capacityFactor = 1 }
    #expect(limited.dropRate > 0.1)
    // With one expert a token, each kept choice is a token that travels.
    for kind in [TrafficSummary.Kind.tokens, .rows] {
      #expect(limited.traffic[kind].between < plain.traffic[kind].between)
    }
    #expect(isClose(limited.traffic[.tokens].between, limited.traffic[.rows].between))
  }
}
