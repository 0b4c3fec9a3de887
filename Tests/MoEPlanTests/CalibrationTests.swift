import ExpertParallel
import MoE
import MoEPlan
import Testing

/// Calibration runs its measurements; the times are not judged.
@Suite struct CalibrationTests {
  @Test func measuredLayersSeeEveryChoice() throws {
    let problem = LayerProblem(experts: 5, top: 2, hidden: 16, inner: 32, tokens: 70, ranks: 3, skew: 2)
    let weights = try problem.weights(seed: 1)
    let execution = try Execution(threadCount: 1)
    let all = try LocalCommunicator.run(ranks: 3) {
      try LayerMeasurement.spread(problem, weights: weights, over: $0, execution: execution, steps: 2)
    }
    for measurement in all {
      #expect(measurement.forward > 0 && measurement.backward > 0)
      #expect(measurement.load.count == 5 && measurement.load.reduce(0, +) == 140)
      #expect(measurement.load == all[0].load)
      #expect(measurement.load[0] > measurement.load[4], "the first expert is the most chosen")
    }
    let alone = try LayerMeasurement.single(problem, weights: weights, execution: execution, seconds: 0)
    #expect(alone.forward > 0 && alone.backward > 0)
    let host = try cluster(hosts: 1, ranks: 3)
    let predicted = try Trial.predict(problem, load: all[0].load, on: host)
    #expect(predicted.imbalance > 1 && predicted.seconds("optimizer") == 0)
  }

  @Test func linksHaveALatencyAndABandwidth() throws {
    for ranks in [1, 3] {
      let links = try LocalCommunicator.run(ranks: ranks) { try LinkMeasurement.measure(over: $0) }
      #expect(links.allSatisfy { $0 == links[0] }, "all ranks have the same")
      #expect(links[0].latency > 0 && links[0].bandwidth > 0)
    }
  }

  /// Four ranks that send 3 bytes to each and to themselves in a second move 48, of which a host sends 9.
  @Test func whatCrossesIsNotWhatIsMoved() {
    #expect(Link(latency: 2, bandwidth: 48).crossing(hosts: 4) == Link(latency: 2, bandwidth: 9))
    #expect(Link(latency: 2, bandwidth: 12).crossing(hosts: 2) == Link(latency: 2, bandwidth: 3))
  }

  @Test func trialsAreOfLayersThatCalibrationDoesNotUse() {
    #expect(Trial.problems.count >= 8)
    #expect(Set(Trial.problems.map(\.rankCount)) == [1, 2, 4])
    for problem in Trial.problems {
      #expect(!Calibration.shapes.contains { $0 == (problem.hiddenSize, problem.feedForwardSize) })
    }
  }
}
