import ExpertParallel
import LayerCases
import MoE
import MoECore
import Testing

/// How many slices a pass takes by itself.
@Suite struct OverlapTests {
  private static func meter(exchange: Int, computation: Int, small: Int) -> OverlapMeter {
    let meter = OverlapMeter()
    meter.noteSmallExchange(.microseconds(small))
    let reader = OverlapMeter.Reader(meter, .forward, tokens: 100)
    // The first pass is not measured.
    for factor in [50, 1] {
      reader.note(
        exchange: .microseconds(exchange * factor), computation: .microseconds(computation), slices: 1)
    }
    return meter
  }

  /// √(min(C, P)/σ) with σ of two small exchanges, as the next power of two.
  @Test(arguments: [
    (10_000, 20_000, 50, 8), (20_000, 10_000, 50, 8), (10_000, 10_000, 5_000, 1), (80_000, 80_000, 1, 32),
    (1_000, 90_000, 100, 2),
  ])
  func theShorterIsDividedAsItsCostAllows(_ exchange: Int, _ computation: Int, _ small: Int, _ slices: Int) {
    let meter = Self.meter(exchange: exchange, computation: computation, small: small)
    #expect(meter.proposal(tokens: 100) == slices)
    // Four times the tokens, twice the slices.
    if slices > 1, slices < 32 { #expect(meter.proposal(tokens: 400) == 2 * slices) }
  }

  @Test func slicesThatComputeLongerAreFewer() {
    let meter = Self.meter(exchange: 10_000, computation: 20_000, small: 50)
    // Seven further slices took 7 · 900 µs more, so that σ is 1 ms in place of 0.1.
    OverlapMeter.Reader(meter, .forward, tokens: 100).note(
      exchange: .zero, computation: .microseconds(26_300), slices: 8)
    #expect(meter.proposal(tokens: 100) == 4)
  }

  @Test func nothingMeasuredIsOneSlice() {
    #expect(OverlapMeter().proposal(tokens: 100) == 1)
    let meter = OverlapMeter()
    meter.noteSmallExchange(.microseconds(1))
    #expect(meter.proposal(tokens: 100) == 1)
  }

  /// Between hosts slices are chosen anew for every pass, and no bit depends on them.
  @Test func automaticSlicesChangeNoBit() throws {
    let layerCase = LayerCase(
      seed: 9, tokenCount: 64, expertCount: 4, expertsPerToken: 2, hiddenSize: 32, feedForwardSize: 32)
    let problem = try layerCase.problem()
    let outputs = try LocalCommunicator.run(ranks: 2, hosts: [0, 1]) { communicator in
      #expect(communicator.transfersBesideComputation)
      let layer = try ExpertParallelLayer(problem.configuration, weights: problem.weights, over: communicator)
      let input = Activations.random([32, 32], seed: UInt64(communicator.rank))
      var workspace = ExpertParallelWorkspace()
      var record = RoutingRecord()
      return try (0..<8).map { _ in
        var output = input
        try layer.forward(input, into: &output, record: &record, workspace: &workspace)
        return output
      }
    }
    for outputs in outputs { #expect(outputs.allSatisfy { $0 == outputs[0] }) }
  }
}
