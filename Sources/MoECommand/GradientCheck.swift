import MoE
import MoEReference

/// Compares the kernels' gradients with the oracle's, for every policy, number format, extent of recording and instruction
/// set.
struct GradientCheck {
  let sets: [InstructionSet]
  let threadCount: Int

  /// γ of the longest chain both ways through the layer, as in `Tests/MoETests`. In bfloat16 seven operands are rounded
  /// by at most 2⁻⁸ on the way to a gradient: row, hidden row, the gradients of output and of gate and up, and the
  /// weights of three products; and of units at the kink of ReLU or of a clamp, about a share of 2⁻⁸, the gradient may
  /// pass here and not there.
  static func bound(
    _ configuration: MoEConfiguration, _ precision: Precision = .float32, tokenCount: Int
  ) -> Double {
    let inner = configuration.feedForwardSize + (configuration.denseBranch?.feedForwardSize ?? 0)
    let roundings = 4 * configuration.hiddenSize + 3 * inner + tokenCount + configuration.expertCount + 64
    let chain = Double(roundings) * 0x1p-24
    guard precision == .bfloat16 else { return chain }
    return chain + 7 * 0x1p-8 + (configuration.activation.hasKink ? 0x1p-8.squareRoot() : 0)
  }

  /// Prints the table and returns the number of rows that are out of bounds.
  func run() throws -> Int {
    var table = TextTable(
      "policy", "weights", "recording", "ISA", "input", "router", "experts", "branch", "bound", "")
    var failures = 0
    for row in CheckCase.all {
      let weights = MoEWeights.random(for: try row.configuration(), seed: 1)
      for precision in Precision.allCases {
        let layer = try MoELayer(row.configuration(), weights: weights, precision: precision)
        let bound = Self.bound(layer.configuration, precision, tokenCount: row.input.tokenCount)
        for extent in [Recording.Extent.full, .recompute] {
          for set in sets {
            let errors = try errors(row, layer, weights, extent, set)
            let isRight = errors.allSatisfy { $0 <= bound }
            if !isRight { failures += 1 }
            let shown = errors.map(scientific)
            table.add(
              row.name, "\(precision)", "\(extent)", "\(set)", shown[0], shown[1], shown[2],
              row.branch == nil ? "–" : shown[3], scientific(bound), isRight ? "ok" : "WRONG")
          }
        }
      }
    }
    table.write()
    StandardStream.output.line(failures == 0 ? "all within bounds" : "\(failures) rows are out of bounds")
    return failures
  }

  /// Returns the errors of the gradients of input, router, experts and dense branch.
  private func errors(
    _ row: CheckCase, _ layer: MoELayer, _ weights: MoEWeights, _ extent: Recording.Extent,
    _ set: InstructionSet
  ) throws -> [Double] {
    let execution = try Execution(instructionSet: set, threadCount: threadCount)
    let outputGradient = Activations.random(row.input.shape, seed: 3)
    var recording = Recording(extent)
    var workspace = Workspace()
    var result = row.input
    try layer.forward(
      row.input, recording: &recording, into: &result, workspace: &workspace, execution: execution)
    let gradients = try MoEGradients(for: layer)
    try layer.backward(
      outputGradient, input: row.input, recording: &recording, into: &result, gradients: gradients,
      workspace: &workspace, execution: execution)
    let found = gradients.weights(of: layer)
    let exact = try oracle(row, layer.configuration, weights, outputGradient, recording.record)
    return [
      relativeRMS(result.tokens.elements, exact.x.flatMap { $0 }),
      relativeRMS(found.routerWeights.weight.elements, exact.routerWeight.flatMap { $0 }),
      networkError(found.experts, exact.experts),
      found.dense.map { networkError([$0], [exact.dense!]) } ?? 0,
    ]
  }

  /// Returns the oracle's gradients, for the choices and drops of a recorded pass.
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

  /// Returns the error over all matrices of `found`.
  private func networkError(
    _ found: [FeedForwardWeights], _ exact: [Reference.FeedForwardGradients]
  ) -> Double {
    relativeRMS(
      found.flatMap { ($0.gate?.elements ?? []) + $0.up.elements + $0.down.elements },
      exact.flatMap { (($0.gate ?? []) + $0.up + $0.down).flatMap { $0 } })
  }
}

extension ActivationFunction {
  fileprivate var hasKink: Bool {
    switch self {
    case .relu, .clampedSwiGLU: true
    default: false
    }
  }
}
