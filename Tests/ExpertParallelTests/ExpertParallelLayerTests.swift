import ExpertParallel
import MoE
import MoECore
import SpreadPasses
import TestSupport
import Testing

/// A layer over ranks computes what one rank does, to the bit: output, routing, losses, gradients of the input and of
/// every parameter.
@Suite struct ExpertParallelLayerTests {
  @Test(arguments: [1, 2, 3, 4, 8])
  func passesHaveTheBitsOfOneRank(_ ranks: Int) {
    checkProperty(seeds: 0..<120) { layerCase in
      let pass = try SpreadPass(layerCase.withSampling, ranks: ranks)
      let difference = try pass.spread().difference(from: pass.one())
      try ensure(difference == nil, "\(ranks) ranks from \(pass.cuts): \(difference!)")
    }
  }

  @Test(arguments: InstructionSet.supported)
  func everyInstructionSetHasTheBitsOfOneRank(_ instructionSet: InstructionSet) {
    checkProperty(seeds: 200..<220) { layerCase in
      let pass = try SpreadPass(layerCase, ranks: 3, instructionSet: instructionSet)
      let difference = try pass.spread().difference(from: pass.one())
      try ensure(difference == nil, "from \(pass.cuts): \(difference!)")
    }
  }

  @Test(arguments: [2, 4, 8])
  func bfloat16HasTheBitsOfOneRank(_ ranks: Int) {
    checkProperty(seeds: 300..<340) { layerCase in
      let pass = try SpreadPass(layerCase, ranks: ranks, precision: .bfloat16)
      let difference = try pass.spread().difference(from: pass.one())
      try ensure(difference == nil, "\(ranks) ranks from \(pass.cuts): \(difference!)")
    }
  }

  /// Any experts on any ranks, some on several, each rank with one at least: the bits stay those of one rank.
  @Test(arguments: [2, 3, 4, 8])
  func everyPlacementHasTheBitsOfOneRank(_ ranks: Int) {
    checkProperty(seeds: 800..<860) { layerCase in
      var pass = try SpreadPass(layerCase.withSampling, ranks: ranks)
      pass.placement = try .random(
        expertCount: layerCase.expertCount, rankCount: ranks, seed: layerCase.seed)
      let difference = try pass.spread().difference(from: pass.one())
      try ensure(
        difference == nil, "\(pass.placement!.experts) from \(pass.cuts), \(pass.exchange): \(difference!)")
    }
  }

  /// Groups of ranks that each hold all experts, as for data parallelism.
  @Test(arguments: [(2, 1), (4, 2), (4, 1), (6, 2), (8, 4)])
  func groupsHaveTheBitsOfOneRank(_ ranks: Int, _ groupSize: Int) {
    checkProperty(seeds: 900..<940) { layerCase in
      var pass = try SpreadPass(layerCase, ranks: ranks)
      pass.placement = try ExpertPlacement(
        expertCount: layerCase.expertCount, rankCount: ranks, expertParallelSize: groupSize)
      let difference = try pass.spread().difference(from: pass.one())
      try ensure(
        difference == nil,
        "groups of \(groupSize) of \(ranks) ranks from \(pass.cuts), \(pass.exchange): \(difference!)")
    }
  }

  /// Each order of priority in both scopes, with a capacity that drops, on cuts that divide sequences.
  @Test(arguments: [
    RoutingPolicy.Capacity.Priority.choiceThenToken, .tokenThenChoice, .weight, .gate, .random,
    .batchPrioritized, .nextChoice,
  ])
  func capacitiesDropTheSameChoices(_ priority: RoutingPolicy.Capacity.Priority) throws {
    for (seed, scope) in [
      (401, RoutingPolicy.Capacity.Scope.batch), (403, .sequence), (405, .sequence), (407, .group(7)),
    ] {
      var layerCase = LayerCase(seed: UInt64(seed))
      (layerCase.batchSize, layerCase.sequenceLength) = (3, 17)
      (layerCase.expertCount, layerCase.expertsPerToken) = (6, 2)
      layerCase.temperament = seed == 403 ? .ties : .skewed
      layerCase.policy = .topKSoftmax
      layerCase.policy.capacity = .init(
        rule: .exact(numerator: 1, denominator: 2, minimum: 1), priority: priority, scope: scope)
      let pass = try SpreadPass(layerCase, ranks: 4)
      let one = try pass.one()
      #expect(one.record.droppedCount > 10)
      let difference = try pass.spread().difference(from: one)
      #expect(difference == nil, "seed \(seed) from \(pass.cuts)")
    }
  }

  /// The extremes of load: every token's first choice is one expert, and one expert is all there is.
  @Test(arguments: [2, 4, 8])
  func oneExpertCanHaveAllTokens(_ ranks: Int) {
    checkProperty(seeds: 500..<512) { layerCase in
      var layerCase = layerCase
      layerCase.temperament = .allToOne
      layerCase.expertsPerToken = 1
      layerCase.policy.choice.second = .best
      layerCase.policy.groups = nil
      if layerCase.seed % 2 == 0 { layerCase.expertCount = 1 }
      let pass = try SpreadPass(layerCase, ranks: ranks)
      let difference = try pass.spread().difference(from: pass.one())
      try ensure(difference == nil, "\(ranks) ranks from \(pass.cuts): \(difference!)")
    }
  }

  /// The sums of an all-reduce are the same on all ranks and near those of one rank; all else has the bits.
  ///
  /// Either sum of n terms is off by at most γ of Σ|terms|. Here terms are of both signs and no sum cancels to less
  /// than 2⁻¹⁰ of that.
  @Test(arguments: [2, 5])
  func reducedSumsAreNearThoseOfOneRank(_ ranks: Int) throws {
    let layerCase = LayerCase(
      seed: 600, tokenCount: 48, expertCount: 3, expertsPerToken: 2, hiddenSize: 16, feedForwardSize: 16)
    var pass = try SpreadPass(layerCase, ranks: ranks)
    pass.gradientSum = .reduced
    var (spread, one) = (try pass.spread(), try pass.one())
    func agree(_ actual: Matrix, _ expected: Matrix) -> Bool {
      Tolerance.relativeRMS(actual.elements.map(Double.init), expected.elements.map(Double.init))
        <= 2 * Tolerance.gamma(2 * 48 + 1) * 0x1p10
    }
    #expect(agree(spread.gradients.routerWeights.weight, one.gradients.routerWeights.weight))
    for expert in 0..<3 {
      let (actual, expected) = (spread.gradients.experts[expert], one.gradients.experts[expert])
      #expect(agree(actual.up, expected.up) && agree(actual.down, expected.down))
      #expect(ranks > 3 || actual == expected)
    }
    spread.gradients = one.gradients
    #expect(spread.difference(from: one) == nil)
    one.output[0] ^= 1
    #expect(spread.difference(from: one) != nil)
  }

  /// The second half of a batch is routed while the tokens of the first travel: the bits are those of two passes one after
  /// another.
  @Test func routesCanBeMadeBesideAnExchange() throws {
    for seed in UInt64(640)..<650 {
      let layerCase = LayerCase(
        seed: seed, tokenCount: 32, expertCount: 4, expertsPerToken: 2, hiddenSize: 16, feedForwardSize: 16)
      let problem = try layerCase.problem()
      let halves = try LocalCommunicator.run(ranks: 2) { communicator in
        let layer = try ExpertParallelLayer(
          problem.configuration, weights: problem.weights, over: communicator,
          exchange: ExchangeOptions(overlap: .slices(3)))
        let inputs = (0..<2).map {
          Activations.random([8, 16], seed: seed + UInt64(2 * $0 + communicator.rank))
        }
        func passes(ahead: Bool) throws -> [Activations] {
          var firstSpace = ExpertParallelWorkspace()
          var secondSpace = ExpertParallelWorkspace()
          var first = ExpertParallelRecording()
          var second = ExpertParallelRecording()
          var (outputs, gradients) = (inputs, inputs)
          let sums = try layer.makeGradients()
          try layer.forward(
            inputs[0], recording: &first, into: &outputs[0], workspace: &firstSpace
          ) {
            if ahead { try layer.route(inputs[1], recording: &second, workspace: &secondSpace) }
          }
          try layer.forward(inputs[1], recording: &second, into: &outputs[1], workspace: &secondSpace)
          try layer.backward(
            inputs[0], input: inputs[0], recording: &first, into: &gradients[0], gradients: sums,
            workspace: &firstSpace)
          try layer.backward(
            inputs[1], input: inputs[1], recording: &second, into: &gradients[1], gradients: sums,
            workspace: &secondSpace)
          return outputs + gradients
        }
        let same = try passes(ahead: true) == passes(ahead: false)
        var recording = ExpertParallelRecording()
        var workspace = ExpertParallelWorkspace()
        try layer.route(inputs[0], recording: &recording, workspace: &workspace)
        var output = Activations.random([7, 16], seed: 1)
        let message = Self.message {
          try layer.forward(output, recording: &recording, into: &output, workspace: &workspace)
        }
        return (same, message)
      }
      for (same, message) in halves {
        #expect(same, "seed \(seed)")
        #expect(message.contains("routes of 8 tokens, the input 7"))
      }
    }
  }

  /// Numbers that travel in bfloat16 are off by at most 2⁻⁸ of themselves. Tokens and rows do so once each; a change of
  /// a token by that much changes a row of these experts, which are nearly linear, by not much more.
  @Test(arguments: [1, 4])
  func bfloat16PayloadsAreNear(_ slices: Int) throws {
    let layerCase = LayerCase(
      seed: 620, tokenCount: 64, expertCount: 4, expertsPerToken: 2, hiddenSize: 32, feedForwardSize: 32)
    var pass = try SpreadPass(layerCase, ranks: 3)
    pass.exchange = ExchangeOptions(overlap: .slices(slices), payload: .bfloat16)
    let (spread, one) = (try pass.spread(), try pass.one())
    func error(_ actual: [UInt32], _ expected: [UInt32]) -> Double {
      Tolerance.relativeRMS(
        actual.map { Double(Float(bitPattern: $0)) }, expected.map { Double(Float(bitPattern: $0)) })
    }
    #expect(spread.record == one.record)
    for error in [error(spread.output, one.output), error(spread.inputGradient, one.inputGradient)] {
      #expect(error > 0x1p-12 && error < 2 * 0x1p-8)
    }
  }

  @Test func contiguousPlacementsDealOutAllExperts() {
    for expertCount in 1...20 {
      for rankCount in 1...24 {
        let placement = ExpertPlacement(expertCount: expertCount, rankCount: rankCount)
        #expect(placement.replicas.allSatisfy { !$0.isEmpty })
        #expect(Set(placement.experts.joined()) == Set(0..<expertCount))
        let sizes = placement.experts.map(\.count)
        #expect(sizes.max()! - sizes.min()! <= 1)
        if rankCount <= expertCount {
          #expect(Array(placement.experts.joined()) == Array(0..<expertCount))
        } else {
          let replicas = placement.replicas.map(\.count)
          #expect(replicas.max()! - replicas.min()! <= 1)
        }
      }
    }
  }

  /// Every rank names the token by its index in the batch.
  @Test func tokensThatCannotBeRoutedAreNamedEverywhere() throws {
    let layerCase = LayerCase(
      seed: 700, tokenCount: 9, expertCount: 4, expertsPerToken: 2, hiddenSize: 8, feedForwardSize: 8)
    let problem = try layerCase.problem()
    let messages = try LocalCommunicator.run(ranks: 3) { communicator in
      let layer = try ExpertParallelLayer(
        problem.configuration, weights: problem.weights, over: communicator)
      var input = Activations.random([3, 8], seed: 1)
      if communicator.rank == 1 { input.tokens[2, 5] = .nan }
      return Self.message { _ = try layer(input) }
    }
    #expect(messages == Array(repeating: messages[0], count: 3))
    #expect(messages[0].contains("token 5"))
  }

  /// Statistics of sequences need whole ones on every rank but the last; gradients fit the layer of their rank only.
  @Test func errorsNameTheCulprit() throws {
    let layerCase = LayerCase(
      seed: 701, tokenCount: 10, expertCount: 4, expertsPerToken: 2, hiddenSize: 8, feedForwardSize: 8)
    let problem = try layerCase.problem()
    let messages = try LocalCommunicator.run(ranks: 2) { communicator in
      let layer = try ExpertParallelLayer(
        problem.configuration, weights: problem.weights, over: communicator)
      let input = Activations.random([communicator.rank == 0 ? 6 : 4, 8], seed: 1)
      var (output, inputGradient) = (input, input)
      var workspace = ExpertParallelWorkspace()
      var recording = ExpertParallelRecording()
      try layer.forward(input, recording: &recording, into: &output, workspace: &workspace)
      return [
        Self.message {
          _ = try layer.statistics(of: &recording, by: .sequence(length: 4), workspace: &workspace)
        },
        Self.message {
          _ = try layer.statistics(of: &recording, by: .sequence(length: 2), workspace: &workspace)
        },
        Self.message {
          try layer.backward(
            input, input: input, recording: &recording, into: &inputGradient,
            gradients: MoEGradients(for: MoELayer(problem.configuration, weights: problem.weights)),
            workspace: &workspace)
        },
      ]
    }
    #expect(messages[0] == messages[1])
    #expect(messages[0][0].contains("rank 0 ends within a sequence, after token 6"))
    #expect(messages[0][1] == "no error")
    #expect(messages[0][2].contains("of other experts"))
  }

  private static func message(_ body: () throws -> Void) -> String {
    do {
      try body()
      return "no error"
    } catch {
      return "\(error)"
    }
  }
}
