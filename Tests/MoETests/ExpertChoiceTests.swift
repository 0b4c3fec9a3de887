import MoE
import MoECore
import MoEReference
import TestSupport
import Testing

/// Layers whose experts choose their tokens, against the oracle: choices, output and gradients.
@Suite struct ExpertChoiceTests {
  private static func problem(
    seed: UInt64, form: RoutingPolicy.ExpertChoice, scope: RoutingPolicy.Capacity.Scope
  ) throws -> (configuration: MoEConfiguration, weights: MoEWeights, input: Activations, mask: [Bool]?) {
    var generator = SeededGenerator(seed: seed)
    var policy = RoutingPolicy(
      scoring: .softmax,
      capacity: .init(
        rule: .exact(numerator: Int.random(in: 1...6, using: &generator), denominator: 2, minimum: 1),
        scope: scope), loadBalance: .none)
    policy.assignment = .expertChoice(form)
    let experts = generator.pick([1, 2, 3, 8, 17])
    let configuration = try MoEConfiguration(
      hiddenSize: generator.pick([5, 16, 33]), feedForwardSize: generator.pick([7, 16]), expertCount: experts,
      expertsPerToken: 1, routing: policy, denseBranch: generator.pick([nil, .residual(feedForwardSize: 5)]))
    let length = generator.pick([1, 5, 16, 49])
    let input = Activations.random([2, length, configuration.hiddenSize], seed: seed)
    let mask = seed % 3 == 0 ? (0..<2 * length).map { _ in generator.next() % 4 != 0 } : nil
    return (configuration, .random(for: configuration, seed: seed &+ 1), input, mask)
  }

  @Test(
    arguments: [RoutingPolicy.ExpertChoice.softmaxOverExperts, .softmaxOverTokens],
    [RoutingPolicy.Capacity.Scope.batch, .sequence, .group(7)])
  func choicesAreTheOracles(_ form: RoutingPolicy.ExpertChoice, _ scope: RoutingPolicy.Capacity.Scope) throws
  {
    for seed in 0..<40 as Range<UInt64> {
      let (configuration, weights, input, mask) = try Self.problem(seed: seed, form: form, scope: scope)
      let layer = try MoELayer(configuration, weights: weights)
      let count = input.tokenCount
      let length = scope == .batch ? count : scope == .sequence ? input.sequenceLength : min(7, count)
      let capacity = configuration.routing.capacity!.rule.capacity(
        tokenCount: length, expertCount: configuration.expertCount, expertsPerToken: 1)
      let expected = Reference.expertChoice(
        logits: Reference.logits(input.tokens, weights.routerWeights), form: form, mask: mask,
        capacity: capacity, scopeLength: length)
      for set in InstructionSet.supported {
        let runs = try [1, 3].map {
          try layer(input, mask: mask, execution: Execution(instructionSet: set, threadCount: $0))
        }
        #expect(
          runs[0].output == runs[1].output && runs[0].record == runs[1].record, "seed \(seed) on \(set)")
        let record = runs[0].record
        let k = record.expertsPerToken
        for token in 0..<count {
          let found = (token * k..<(token + 1) * k).filter { record.expertIDs[$0] >= 0 }
          let comment: Comment = "seed \(seed), token \(token) on \(set)"
          // Random logits have no near ties: the choices are equal.
          try #require(found.map { Int(record.expertIDs[$0]) } == expected[token].map(\.expert), comment)
          try #require(found.map { Int(record.slots[$0]) } == expected[token].map(\.slot), comment)
          for (index, choice) in zip(found, expected[token]) {
            let error = Tolerance.gamma(200) * choice.weight + 1e-30
            try #require(
              Tolerance.agree(Double(record.expertWeights[index]), choice.weight, within: error), comment)
          }
        }
      }
    }
  }

  /// The gradients for the kernel's own choices. A token that no expert took gets none from the experts.
  @Test func gradientsAreTheOracles() throws {
    for seed in 100..<140 as Range<UInt64> {
      let (configuration, weights, input, mask) = try Self.problem(
        seed: seed, form: .softmaxOverExperts, scope: .batch)
      let layer = try MoELayer(configuration, weights: weights)
      let outputGradient = Activations.random(input.shape, seed: seed &+ 7)
      for set in InstructionSet.supported {
        let execution = try Execution(instructionSet: set, threadCount: 2)
        var recording = Recording()
        var workspace = Workspace()
        var output = input
        try layer.forward(
          input, mask: mask, recording: &recording, into: &output, workspace: &workspace, execution: execution
        )
        let record = recording.record
        let gradients = try MoEGradients(for: layer)
        try layer.backward(
          outputGradient, input: input, recording: &recording, into: &output, gradients: gradients,
          workspace: &workspace, execution: execution)
        let logits = Reference.logits(input.tokens, weights.routerWeights)
        let (routing, permutation) = Reference.decisions(
          of: record, logits: logits, policy: configuration.routing)
        let exact = try Reference.gradients(
          input, weights: weights, configuration: configuration, routing: routing, permutation: permutation,
          outputGradient: Reference.rows(outputGradient.tokens))
        let comment: Comment = "seed \(seed) on \(set)"
        let ofInput = Tolerance.relativeRMS(
          output.tokens.elements.map(Double.init), exact.x.flatMap { $0 })
        #expect(ofInput < 5e-5, comment)
        // With one expert its probability is 1, and the gradient of its logit only rounding.
        if configuration.expertCount > 1 {
          let ofRouter = Tolerance.relativeRMS(
            gradients.weights(of: layer).routerWeights.weight.elements.map(Double.init),
            exact.routerWeight.flatMap { $0 })
          #expect(ofRouter < 5e-5, comment)
        }
      }
    }
  }

  @Test func expertsThatCompareTokensHaveNoBackwardPass() throws {
    let (configuration, weights, input, _) = try Self.problem(
      seed: 1, form: .softmaxOverTokens, scope: .batch)
    let layer = try MoELayer(configuration, weights: weights)
    var recording = Recording()
    var workspace = Workspace()
    var output = input
    try layer.forward(input, recording: &recording, into: &output, workspace: &workspace)
    #expect(throws: MoEError.self) {
      try layer.backward(
        input, input: input, recording: &recording, into: &output, gradients: MoEGradients(for: layer),
        workspace: &workspace)
    }
  }
}
