import MoE
import MoEReference

/// The gradients of each loss of the router against the oracle's, alone: the layer's output has none.
struct LossCheck {
  let sets: [InstructionSet]
  let threadCount: Int

  private struct Statistics {
    let batch: RouterStatistics
    let sequences: RouterStatistics
    let positions: RouterStatistics
  }

  private struct Row: Sendable {
    let name: String
    let loss: @Sendable (Statistics) throws -> RouterLoss
    /// The loss of the routing, by the length of its sequences.
    let exact: @Sendable (Reference.Routing, Int) -> Reference.RouterLoss
  }

  private static let rows = [
    Row(name: "Switch", loss: { $0.batch.switchTransformer() }) { routing, _ in
      Reference.Losses.switchTransformer(routing.scores, firstChoiceCounts: routing.firstChoiceCounts)
    },
    Row(name: "GShard top-2", loss: { $0.batch.gshardTop2() }) { routing, _ in
      Reference.Losses.gshardTop2(routing.scores, firstChoiceCounts: routing.firstChoiceCounts)
    },
    Row(name: "DeepSpeed top-k", loss: { $0.batch.deepSpeedTopK() }) { routing, _ in
      Reference.Losses.deepSpeedTopK(
        routing.scores, counts: routing.counts, expertsPerToken: routing.expertIDs[0].count)
    },
    Row(name: "DeepSeek-V3 sequence", loss: { try $0.sequences.deepSeekV3Sequence() }) { routing, length in
      Reference.Losses.deepSeekV3Sequence(
        routing.scores,
        counts: Reference.Losses.counts(
          routing.expertIDs, expertCount: routing.expertCount, tokensPerGroup: length, of: .allChoices),
        sequenceLength: length, expertsPerToken: routing.expertIDs[0].count)
    },
    Row(name: "importance", loss: { $0.batch.importance() }) { routing, _ in
      Reference.Losses.importance(routing.scores)
    },
    Row(name: "variance over tokens", loss: { try $0.batch.variance(.overTokens) }) { routing, _ in
      Reference.Losses.varianceOverTokens(routing.scores)
    },
    Row(name: "variance, positions", loss: { try $0.positions.variance(.seedPositional) }) {
      Reference.Losses.seedPositional($0.scores, sequenceLength: $1)
    },
    Row(name: "router z", loss: { $0.batch.zLoss() }) { routing, _ in
      Reference.Losses.routerZ(routing.logSumExp, expertCount: routing.expertCount)
    },
  ]

  /// Prints the table and returns the number of rows that are out of bounds.
  func run() throws -> Int {
    var table = TextTable("loss", "ISA", "value", "input", "router", "bound", "")
    let problem = CheckCase.all[2]
    let configuration = try problem.configuration()
    let weights = MoEWeights.random(for: configuration, seed: 1)
    let layer = try MoELayer(configuration, weights: weights)
    let (input, length) = (problem.input, problem.input.sequenceLength)
    let bound = GradientCheck.bound(configuration, tokenCount: input.tokenCount)
    var nothing = input
    nothing.tokens = Matrix(rows: input.tokenCount, columns: configuration.hiddenSize)
    var failures = 0
    for row in Self.rows {
      for set in sets {
        let execution = try Execution(instructionSet: set, threadCount: threadCount)
        var recording = Recording()
        var workspace = Workspace()
        var result = input
        try layer.forward(
          input, recording: &recording, into: &result, workspace: &workspace, execution: execution)
        func statistics(_ grouping: TokenGrouping) throws -> RouterStatistics {
          try layer.statistics(
            of: &recording, by: grouping, workspace: &workspace, execution: execution)
        }
        let loss = try row.loss(
          Statistics(
            batch: statistics(.batch), sequences: statistics(.sequence(length: length)),
            positions: statistics(.position(length: length))))
        let gradients = try MoEGradients(for: layer)
        try layer.backward(
          nothing, input: input, recording: &recording, losses: loss.gradients, into: &result,
          gradients: gradients, workspace: &workspace, execution: execution)

        let (routing, permutation) = Reference.decisions(
          of: recording.record, logits: Reference.logits(input.tokens, weights.routerWeights),
          policy: configuration.routing)
        let exactLoss = row.exact(routing, length)
        let exact = try Reference.gradients(
          input, weights: weights, configuration: configuration, routing: routing, permutation: permutation,
          outputGradient: Reference.rows(nothing.tokens), loss: exactLoss)
        let errors = [
          abs(loss.value - exactLoss.value) / abs(exactLoss.value),
          relativeRMS(result.tokens.elements, exact.x.flatMap { $0 }),
          relativeRMS(
            gradients.weights(of: layer).routerWeights.weight.elements, exact.routerWeight.flatMap { $0 }),
        ]
        let isRight = errors.allSatisfy { $0 <= bound }
        if !isRight { failures += 1 }
        let shown = errors.map(scientific)
        table.add(
          row.name, "\(set)", shown[0], shown[1], shown[2], scientific(bound), isRight ? "ok" : "WRONG")
      }
    }
    table.write()
    StandardStream.output.line(failures == 0 ? "all within bounds" : "\(failures) rows are out of bounds")
    return failures
  }
}
