import MoE
import MoEReference

/// The kernels' gradients against the oracle's, for every policy and instruction set.
struct GradientCheck {
  let sets: [InstructionSet]
  let threadCount: Int

  /// γ of the longest chain both ways through the layer, as in `Tests/MoETests`.
  static func bound(_ configuration: MoEConfiguration, tokenCount: Int) -> Double {
    let inner = configuration.feedForwardSize + (configuration.denseBranch?.feedForwardSize ?? 0)
    let roundings = 4 * configuration.hiddenSize + 3 * inner + tokenCount + configuration.expertCount + 64
    return Double(roundings) * 0x1p-24
  }

  /// Prints the table and returns the number of rows that are out of bounds.
  func run() throws -> Int {
    var table = TextTable("policy", "ISA", "input", "router", "experts", "branch", "bound", "")
    var failures = 0
    for row in CheckCase.all {
      let configuration = try row.configuration()
      let weights = MoEWeights.random(for: configuration, seed: 1)
      let layer = try MoELayer(configuration, weights: weights)
      let outputGradient = Activations.random(row.input.shape, seed: 3)
      let bound = Self.bound(configuration, tokenCount: row.input.tokenCount)
      for set in sets {
        let execution = try Execution(instructionSet: set, threadCount: threadCount)
        var recording = Recording()
        var workspace = Workspace()
        var result = row.input
        try layer.forward(
          row.input, recording: &recording, into: &result, workspace: &workspace, execution: execution)
        let gradients = try MoEGradients(for: layer)
        try layer.backward(
          outputGradient, input: row.input, recording: &recording, into: &result, gradients: gradients,
          workspace: &workspace, execution: execution)
        let found = gradients.weights(of: layer)
        let exact = try oracle(row, configuration, weights, outputGradient, recording.record)
        let errors = [
          relativeRMS(result.tokens.elements, exact.x.flatMap { $0 }),
          relativeRMS(found.routerWeights.weight.elements, exact.routerWeight.flatMap { $0 }),
          networkError(found.experts, exact.experts),
          found.dense.map { networkError([$0], [exact.dense!]) } ?? 0,
        ]
        let isRight = errors.allSatisfy { $0 <= bound }
        if !isRight { failures += 1 }
        let shown = errors.map(scientific)
        table.add(
          row.name, "\(set)", shown[0], shown[1], shown[2], found.dense == nil ? "–" : shown[3],
          scientific(bound), isRight ? "ok" : "WRONG")
      }
    }
    table.print()
    print(failures == 0 ? "all within bounds" : "\(failures) rows are out of bounds")
    return failures
  }

  /// The oracle's gradients for the choices and drops of a recorded pass.
  private func oracle(
    _ row: CheckCase, _ configuration: MoEConfiguration, _ weights: MoEWeights, _ outputGradient: Activations,
    _ record: RoutingRecord
  ) throws -> Reference.LayerGradients {
    let (routing, permutation) = Reference.decisions(
      of: record, logits: Reference.logits(row.input.tokens, weights.routerWeights),
      policy: configuration.routing)
    return try Reference.gradients(
      row.input, weights: weights, configuration: configuration, routing: routing,
      permutation: permutation,
      outputGradient: Reference.rows(outputGradient.tokens))
  }

  /// The error over all matrices of some networks.
  private func networkError(
    _ found: [FeedForwardWeights], _ exact: [Reference.FeedForwardGradients]
  ) -> Double {
    relativeRMS(
      found.flatMap { ($0.gate?.elements ?? []) + $0.up.elements + $0.down.elements },
      exact.flatMap { (($0.gate ?? []) + $0.up + $0.down).flatMap { $0 } })
  }
}
