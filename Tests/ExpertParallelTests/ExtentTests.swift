import ExpertParallel
import MoE
import MoECore
import TestSupport
import Testing

/// Capacities and losses of each rank's own tokens, as DeepSpeed and Megatron-Core count.
@Suite struct ExtentTests {
  /// Every rank's output, records and loss are those of one rank with its tokens alone, and the gradients of parameters
  /// those of these passes one after another.
  @Test(arguments: [RoutingPolicy.Capacity.Priority.choiceThenToken, .tokenThenChoice, .weight])
  func ranksDropForThemselves(_ priority: RoutingPolicy.Capacity.Priority) throws {
    for seed in UInt64(0)..<20 {
      var layerCase = LayerCase(
        seed: seed, tokenCount: 40, expertCount: 6, expertsPerToken: 2, hiddenSize: 16, feedForwardSize: 16)
      layerCase.temperament = .skewed
      layerCase.policy = .topKSoftmax
      layerCase.policy.capacity = .init(
        rule: .exact(numerator: 3, denominator: 4, minimum: 1), priority: priority, scope: .batch)
      let (problem, ranks) = (try layerCase.problem(), 3)
      let cuts = [0, Int(seed) * 2, 20 + Int(seed), 40]
      let parts = try (0..<ranks).map { rank in
        try Activations(
          shape: [cuts[rank + 1] - cuts[rank], 16],
          tokens: problem.input.tokens.rows(cuts[rank]..<cuts[rank + 1]))
      }

      let one = try MoELayer(problem.configuration, weights: problem.weights)
      let gradients = try MoEGradients(for: one)
      var expected: [(output: Activations, input: Activations, record: RoutingRecord)] = []
      for part in parts {
        var recording = Recording()
        var workspace = Workspace()
        var (output, inputGradient) = (part, part)
        try one.forward(part, recording: &recording, into: &output, workspace: &workspace)
        let record = recording.record
        let loss = try one.statistics(of: &recording, by: .batch, workspace: &workspace)
          .switchTransformer(coefficient: 0.5)
        try one.backward(
          part, input: part, recording: &recording, losses: loss.gradients, into: &inputGradient,
          gradients: gradients, workspace: &workspace)
        expected.append((output, inputGradient, record))
      }
      #expect(expected.contains { $0.record.droppedCount > 0 })

      let actual = try LocalCommunicator.run(ranks: ranks) { communicator in
        let layer = try ExpertParallelLayer(
          problem.configuration, weights: problem.weights, over: communicator,
          exchange: ExchangeOptions(overlap: .slices(2)), capacityExtent: .rank)
        let part = parts[communicator.rank]
        var recording = ExpertParallelRecording()
        var workspace = ExpertParallelWorkspace()
        var (output, inputGradient) = (part, part)
        let gradients = try layer.makeGradients()
        try layer.forward(part, recording: &recording, into: &output, workspace: &workspace)
        let record = recording.record
        let loss = try layer.statistics(of: &recording, by: .batch, extent: .rank, workspace: &workspace)
          .switchTransformer(coefficient: 0.5)
        try layer.backward(
          part, input: part, recording: &recording, losses: loss.gradients, of: .rank, into: &inputGradient,
          gradients: gradients, workspace: &workspace)
        return (output: output, input: inputGradient, record: record, sums: layer.weights(of: gradients))
      }
      for (rank, (actual, expected)) in zip(actual, expected).enumerated() {
        #expect(actual.output == expected.output, "seed \(seed), rank \(rank)")
        #expect(actual.input == expected.input, "seed \(seed), rank \(rank)")
        #expect(actual.record == expected.record, "seed \(seed), rank \(rank)")
      }
      let sums = gradients.weights(of: one)
      #expect(actual.allSatisfy { $0.sums.routerWeights == sums.routerWeights })
      #expect(actual.flatMap { $0.sums.experts } == sums.experts)
    }
  }
}
