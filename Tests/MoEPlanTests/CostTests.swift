import MoEPlan
import Testing

/// Times by hand.
@Suite struct CostTests {
  /// Two hosts with a rank and an expert each, 200 tokens of 4 numbers, one expert a token.
  @Test func twoRanksByHand() throws {
    let planner = try Planner(
      model: model(experts: 2, top: 1, hidden: 4, inner: 8), workload: workload(tokens: 200),
      cluster: cluster(),
      load: .uniform)
    let prediction = try planner.predict(Split(expertParallel: 2))
    // Half of a rank's 100 tokens go to the other rank: 50·16 bytes, out and back, forward and backward.
    #expect(isClose(prediction.traffic[.tokens].between, 2 * 2 * 800))
    #expect(isClose(prediction.traffic[.rows].between, 2 * 2 * 800))
    // 12 bytes of a choice forward, 4 backward; 40, 4 of each expert, and 16 in counts.
    #expect(isClose(prediction.traffic[.announcements].between, 2 * (600 + 200)))
    #expect(isClose(prediction.traffic[.counts].between, 2 * (40 + 8 + 16)))
    // Gradients of 8 numbers: each sends the other its half, twice.
    #expect(isClose(prediction.traffic[.gradients].between, 2 * 2 * 16))
    #expect(prediction.traffic.inside == 0)
    #expect(isClose(prediction.seconds("announce"), 4e-3 + 664e-6))
    #expect(isClose(prediction.seconds("row weights"), 1e-3 + 200e-6))
    // 100 rows of 2·3·4·8 operations at 10⁹ a second; backward twice that.
    #expect(abs(prediction.seconds("experts") - 19.2e-6) < 1e-9)
    #expect(abs(prediction.seconds("experts, back") - 38.4e-6) < 1e-9)
    // An exchange takes 1 ms + 800 µs. The half of the backward pass that gives weights' gradients is hidden.
    #expect(abs(prediction.seconds("exchange") - (2 * 1.8e-3 + 2 * 1.8e-3 - 19.2e-6)) < 1e-8)
    #expect(isClose(prediction.imbalance, 1))
    #expect(prediction.dropRate == 0)
  }

  @Test func twoSlicesByHand() {
    func slice(
      out: Double, compute: Double, back: Double, filler: Double = 0
    ) -> Pipeline.Slice {
      .init(out: out, back: back, copyOut: [0], compute: [compute], copyBack: [0], filler: [filler])
    }
    // Tokens come at 1 and 2, slices are done at 4 and 7, rows are back at 5 and 8.
    let plain = slice(out: 1, compute: 3, back: 1)
    let pipeline = Pipeline([plain, plain])
    #expect(pipeline.duration == 8 && pipeline.compute == 6 && pipeline.communication == 4)
    // Work after the slices goes on to 9, when all rows are back.
    let more = slice(out: 1, compute: 3, back: 1, filler: 1)
    #expect(Pipeline([more, more]).duration == 9)
    #expect(Pipeline([slice(out: 2, compute: 6, back: 2)]).duration == 10)
    #expect(Pipeline([slice(out: 2, compute: 6, back: 2, filler: 1)]).duration == 10)
    // The link is busy with the second slice's tokens until 10; the first slice's rows follow, then the second's.
    let slow = slice(out: 5, compute: 1, back: 1)
    #expect(Pipeline([slow, slow]).duration == 12)
    // Three seconds of the first slice's gradients fill the wait from 6 to 10, and the second's go on from 11 to 14.
    let filled = Pipeline(Array(repeating: slice(out: 5, compute: 1, back: 1, filler: 3), count: 2))
    #expect(filled.duration == 14)
    #expect(filled.spans.filter { $0.kind == .gradients }.map(\.start) == [6, 11])
    // The slower rank holds up the way back; copies take the cores' time.
    let uneven = Pipeline.Slice(
      out: 1, back: 1, copyOut: [0.5, 0.5], compute: [3, 5], copyBack: [0.25, 0.25])
    let pair = Pipeline([uneven])
    #expect(pair.duration == 7 && pair.compute == 5)
    #expect(pair.spans.filter { $0.kind == .compute }.map(\.end) == [6])
  }

  @Test func ranksShareCores() throws {
    let split = Split(expertParallel: 4)
    let shared = Topology(cluster: try cluster(hosts: 1, ranks: 4, cores: 2), split: split)
    // Seconds on all cores: a rank alone has one of the two, all together both.
    #expect(shared.elapsed([1, 0, 0, 0]).max() == 2)
    #expect(shared.elapsed([1, 1, 1, 1]).max() == 4)
    #expect(shared.elapsed(1) == 4)
    #expect(shared.serial(1) == 2)
    let own = Topology(cluster: try cluster(hosts: 1, ranks: 2, cores: 8), split: Split(expertParallel: 2))
    #expect(own.elapsed([1, 3]) == [2, 6])
    #expect(own.elapsed(1) == 2 && own.serial(1) == 1)
  }

  @Test func expertsByTheRoofline() throws {
    let rates = ComputeRates(flops: 1e9, memoryBandwidth: 1e6)
    let clock = ExpertClock(
      rates, model: try model(hidden: 10, inner: 10), feedForwardSize: 10, parameterBytes: 4)
    // 1200 bytes of weights take 1.2 ms, 600 operations a row 0.6 µs.
    #expect(isClose(clock.seconds(rows: 1).forward, 1.2e-3))
    #expect(isClose(clock.seconds(rows: 1).backward, 3.6e-3))
    #expect(isClose(clock.seconds(rows: 10_000).forward, 6e-3))
    #expect(isClose(clock.seconds(rows: 10_000).backward, 12e-3))
    #expect(clock.seconds(rows: 0) == (0, 0))
  }

  @Test func expertsByTheCurve() throws {
    var rates = ComputeRates(flops: 1e9)
    for (rows, rate) in [(8, 1e8), (64, 4e8), (512, 8e8)] {
      for size in [10, 100] {
        rates.curve.append(
          CurvePoint(
            hiddenSize: size, feedForwardSize: size, rows: rows, forward: rate * Double(size) / 10,
            backward: rate))
      }
    }
    let clock = ExpertClock(
      rates, model: try model(hidden: 10, inner: 10), feedForwardSize: 10, parameterBytes: 4)
    // At a measured point, the measured time; a distance of nothing weighs a million times one of ln 10 in both.
    for (rows, rate) in [(8.0, 1e8), (64, 4e8), (512, 8e8)] {
      #expect(abs(clock.seconds(rows: rows).forward / (rows * 600 / rate) - 1) < 1e-4)
      #expect(abs(clock.seconds(rows: rows).backward / (2 * rows * 600 / rate) - 1) < 1e-4)
    }
    #expect(isClose(clock.seconds(rows: 5120).forward, 10 * clock.seconds(rows: 512).forward))
    var last = 0.0
    for rows in 1...1000 {
      let next = clock.seconds(rows: Double(rows)).forward
      #expect(next > last)
      last = next
    }
  }

  /// Four hosts of two ranks on links that are all latency: directly a rank has six messages to other hosts, by way of hosts
  /// the second rank of the first host serves two of them, and none serves more.
  @Test func hostsAreServedInTurn() throws {
    var planner = try Planner(
      model: model(experts: 8), workload: workload(tokens: 800, trains: false),
      cluster: cluster(hosts: 4, ranks: 2, link: Link(latency: 1, bandwidth: 1e15), flops: 1e15),
      load: .uniform)
    let usual = try planner.predict(Split(expertParallel: 8))
    #expect(usual.route == .hierarchical && abs(usual.seconds("exchange") - 4) < 1e-6)
    planner.route = .direct
    let direct = try planner.predict(Split(expertParallel: 8))
    #expect(direct.route == .direct && abs(direct.seconds("exchange") - 12) < 1e-6)
    #expect(direct.seconds("announce") == usual.seconds("announce"))
    planner.route = nil
    // Within a host, and with a rank on each, there is nothing to gather.
    #expect(try planner.predict(Split(expertParallel: 2, dataParallel: 4)).route == .direct)
  }

  @Test func exactSumsTakeOneRankAfterAnother() throws {
    let shape = try ModelShape(
      expertCount: 4, expertsPerToken: 1, hiddenSize: 100, feedForwardSize: 8, sharedFeedForwardSize: 1000,
      hasAttention: false)
    var step = workload(tokens: 400)
    let four = try cluster(hosts: 4, link: Link(latency: 0, bandwidth: 1e15))
    let reduced = try Planner(model: shape, workload: step, cluster: four, load: .uniform).predict(
      Split(expertParallel: 4))
    step.gradientSum = .exact
    let exact = try Planner(model: shape, workload: step, cluster: four, load: .uniform).predict(
      Split(expertParallel: 4))
    // 2·100 tokens of a rank·(300 400 parameters), at 10⁹ a second.
    #expect(isClose(reduced.seconds("shared gradients"), 0.06008))
    #expect(abs(exact.seconds("gradient sums") - 4 * 0.06008) < 1e-6)
  }
}
