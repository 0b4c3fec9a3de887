import MoE
import MoECore
import MoEReference
import TestSupport
import Testing

/// Every loss of recorded statistics against the oracle's of the same counts, for random layers, policies, masks,
/// instruction sets and threads.
@Suite struct RouterLossTests {
  @Test(arguments: InstructionSet.supported)
  func lossesMatchOracle(_ instructionSet: InstructionSet) {
    checkProperty(seeds: 0..<120) { layerCase in
      guard layerCase.temperament != .huge else { return }
      var pass = try RecordedPass(
        layerCase, Execution(instructionSet: instructionSet, threadCount: Int(layerCase.seed % 3) + 1))
      for (name, loss, exact) in try pass.losses() { try pass.compare(name, loss, exact) }
    }
  }

  /// The statistics of a batch, of its sequences and of its positions are over the same tokens.
  @Test(arguments: InstructionSet.supported)
  func groupsAddUpToTheBatch(_ instructionSet: InstructionSet) {
    checkProperty(seeds: 300..<400) { layerCase in
      for threads in [1, 3] {
        var pass = try RecordedPass(
          layerCase, Execution(instructionSet: instructionSet, threadCount: threads))
        let batch = pass.recording.record.statistics
        for length in [1, 2, layerCase.sequenceLength, layerCase.tokenCount + 1] {
          for grouping in [TokenGrouping.sequence(length: length), .position(length: length)] {
            let statistics = try pass.statistics(grouping)
            try ensure(statistics.ofBatch == batch, "\(grouping) on \(threads) threads")
            try ensure(statistics.tokenCounts == pass.tokenCounts(grouping), "tokens of each \(grouping)")
          }
        }
      }
    }
  }

  /// Padding changes no loss: a masked batch has the statistics of the batch without the masked tokens.
  @Test func maskedTokensAreNotThere() {
    checkProperty(seeds: 0..<200) { layerCase in
      var layerCase = layerCase
      layerCase.isMasked = true
      layerCase.policy.capacity = nil
      layerCase.policy.choice = .best
      let problem = try layerCase.problem()
      let layer = try MoELayer(problem.configuration, weights: problem.weights)
      let (_, masked) = try layer(problem.input, mask: problem.mask)
      let (width, input) = (layerCase.hiddenSize, problem.input.tokens.elements)
      let kept = problem.mask!.indices.filter { problem.mask![$0] }
      let unpadded = try Matrix(
        rows: kept.count, columns: width, elements: kept.flatMap { input[$0 * width..<($0 + 1) * width] })
      let (_, record) = try layer(Activations(shape: [kept.count, width], tokens: unpadded))
      try ensure(masked.statistics == record.statistics, "the masked batch has other statistics")
      try ensure(
        masked.loadBalance(coefficient: 1) == record.loadBalance(coefficient: 1), "and another loss")
    }
  }

  @Test func edgesHaveTheirValues() throws {
    // Without tokens, or with masked tokens only, every loss is 0, and so is its gradient.
    let none = RouterStatistics(grouping: .position(length: 2), expertCount: 3, expertsPerToken: 1)
    let sequences = RouterStatistics(grouping: .sequence(length: 2), expertCount: 3, expertsPerToken: 1)
    for loss in try [
      none.switchTransformer(), none.gshardTop2(), none.deepSpeedTop1(), none.deepSpeedTop2(),
      none.deepSpeedTopK(), none.megatron(coefficient: 1), none.importance(),
      none.megatronGlobal(coefficient: 1, gathered: none), none.variance(.seedPositional),
      none.variance(.overTokens), sequences.megatronSequence(coefficient: 1), none.zLoss(),
    ] {
      #expect(loss.value == 0)
      #expect(loss.gradients.probability.allSatisfy { $0.values.elements.allSatisfy { $0 == 0 } })
    }
    // A single expert takes all tokens and has no variance.
    let one = try RoutingPolicy.topKSoftmax.route(
      logits: Matrix(rows: 3, columns: 1), expertsPerToken: 1
    ).statistics
    #expect(one.switchTransformer(coefficient: 2).value == 2)
    #expect(one.importance().value == 0)
    #expect(try one.variance(.overTokens).value == 0)
    // One of four experts takes all tokens, with certainty: the loss is E, and CV² is E.
    let collapsed = try RoutingPolicy.topKSoftmax.route(
      logits: Matrix(rows: 2, columns: 4, elements: [0, 99, 0, 0, 0, 99, 0, 0]), expertsPerToken: 1
    ).statistics
    #expect(collapsed.gshardTop2().value == 4)
    #expect(abs(collapsed.importance(coefficient: 1).value - 4) < 1e-8)
    #expect(abs(try collapsed.variance(.overTokens).value - 0.25) < 1e-15)
    // Balanced: the loss is the coefficient, and the variance and its gradient are 0.
    let balanced = try RoutingPolicy.topKSoftmax.route(
      logits: Matrix(rows: 2, columns: 2, elements: [1, 0, 0, 1]), expertsPerToken: 1
    ).statistics
    #expect(abs(balanced.switchTransformer().value - 0.01) < 1e-9)
    #expect(balanced.importance().value == 0)
    #expect(balanced.importance().gradients.probability[0].values.elements == [0, 0])
  }

  @Test func statisticsOfOtherGroupsAreRefused() throws {
    let batch = RouterStatistics(grouping: .batch, expertCount: 2, expertsPerToken: 1)
    let sequences = RouterStatistics(grouping: .sequence(length: 3), expertCount: 2, expertsPerToken: 1)
    let wide = RouterStatistics(grouping: .batch, expertCount: 3, expertsPerToken: 1)
    #expect(throws: MoEError.self) { try batch.megatronSequence(coefficient: 1) }
    #expect(throws: MoEError.self) { try batch.deepSeekV3Sequence() }
    #expect(throws: MoEError.self) { try sequences.variance(.seedPositional) }
    #expect(throws: MoEError.self) { try batch + sequences }
    #expect(throws: MoEError.self) { try batch + wide }
    #expect(throws: MoEError.self) { try batch.megatronGlobal(coefficient: 1, gathered: wide) }
    var recording = Recording()
    var workspace = Workspace()
    let configuration = try MoEConfiguration(
      hiddenSize: 4, feedForwardSize: 4, expertCount: 2, expertsPerToken: 1)
    let layer = try MoELayer(configuration, weights: MoEWeights.random(for: configuration, seed: 1))
    #expect(throws: MoEError.self) { try layer.statistics(of: &recording, by: .batch, workspace: &workspace) }
    var output = Activations.random([2, 4], seed: 1)
    try layer.forward(output, recording: &recording, into: &output, workspace: &workspace)
    for length in [0, -1, 1 << 40] {
      #expect(throws: MoEError.self) {
        try layer.statistics(of: &recording, by: .position(length: length), workspace: &workspace)
      }
    }
  }

  @Test func selectionBiasMovesTowardsBalance() throws {
    let logits = try Matrix(rows: 4, columns: 3, elements: [3, 2, 1, 3, 2, 1, 3, 1, 2, 3, 2, 1])
    let record = try RoutingPolicy.topKSoftmax.route(logits: logits, expertsPerToken: 2)
    #expect(record.counts == [4, 3, 1])
    let bias: [Float] = [0.5, 0, -0.5]
    let expected = Reference.Losses.updatedSelectionBias(bias, counts: [4, 3, 1], rate: 0.125)
    #expect(record.updatedSelectionBias(bias, rate: 0.125) == expected)
    #expect(expected == [0.375, -0.125, -0.375])
    // The sum of two micro-batches decides: 8, 6 and 2 of 16.
    let both = try record.statistics + record.statistics
    #expect(both.updatedSelectionBias(bias, rate: 0.125) == expected)
  }
}
