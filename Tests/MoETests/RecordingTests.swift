import MoE
import MoECore
import TestSupport
import Testing

/// Recordings keep their values, even if they share a workspace.
@Suite struct RecordingTests {
  @Test(arguments: InstructionSet.supported, Precision.allCases)
  func recomputeGivesTheBitsOfFull(_ instructionSet: InstructionSet, _ precision: Precision) {
    checkProperty(seeds: 700..<850) { layerCase in
      guard BackwardTests.temperaments.contains(layerCase.temperament) else { return }
      let problem = try layerCase.problem()
      let layer = try MoELayer(problem.configuration, weights: problem.weights, precision: precision)
      let execution = try Execution(instructionSet: instructionSet, threadCount: 2)
      let steps = try [Recording.Extent.full, .recompute].map {
        try Step(layer, problem.input, mask: problem.mask, extent: $0, execution: execution)
      }
      try ensure(steps[0] == steps[1], "the gradients differ on \(instructionSet)")
    }
  }

  /// Two layers of different shapes and two parts of a batch: four passes share one workspace, and their backward
  /// passes run in another order. Each gives the same result as alone with its own workspace.
  @Test(arguments: [Recording.Extent.full, .recompute])
  func recordingsShareAWorkspace(_ extent: Recording.Extent) throws {
    let layers = try [(24, 40, 4), (40, 70, 7)].map { hidden, inner, experts in
      let configuration = try MoEConfiguration(
        hiddenSize: hidden, feedForwardSize: inner, expertCount: experts, expertsPerToken: 2,
        denseBranch: .residual(feedForwardSize: 20))
      return try MoELayer(configuration, weights: MoEWeights.random(for: configuration, seed: 4))
    }
    let execution = try Execution(threadCount: 2)
    func input(_ pass: Int) -> Activations {
      .random([20 + 9 * pass, layers[pass % 2].configuration.hiddenSize], seed: UInt64(pass))
    }
    var workspace = Workspace()
    var first = Recording(extent)
    var second = Recording(extent)
    var third = Recording(extent)
    var fourth = Recording(extent)
    var outputs: [Matrix] = []
    func forward(_ pass: Int, _ recording: inout Recording) throws {
      var output = input(pass)
      try layers[pass % 2].forward(
        input(pass), recording: &recording, into: &output, workspace: &workspace, execution: execution)
      outputs.append(output.tokens)
    }
    try forward(0, &first)
    try forward(1, &second)
    try forward(2, &third)
    try forward(3, &fourth)

    func backward(_ pass: Int, _ recording: inout Recording) throws {
      let layer = layers[pass % 2]
      let gradients = try MoEGradients(for: layer)
      var result = input(pass)
      try layer.backward(
        Step.outputGradient(for: input(pass)), input: input(pass), recording: &recording, into: &result,
        gradients: gradients, workspace: &workspace, execution: execution)
      let alone = try Step(layer, input(pass), extent: .full, execution: execution)
      let shared = Step(
        output: outputs[pass], inputGradient: result.tokens, gradients: gradients.weights(of: layer))
      #expect(shared == alone, "pass \(pass)")
    }
    try backward(1, &second)
    try backward(3, &fourth)
    try backward(2, &third)
    try backward(0, &first)
  }

  @Test func aRecordingFitsItsPassOnly() throws {
    let layers = try [8, 9].map { inner in
      let configuration = try MoEConfiguration(
        hiddenSize: 8, feedForwardSize: inner, expertCount: 2, expertsPerToken: 1)
      return try MoELayer(configuration, weights: MoEWeights.random(for: configuration, seed: 1))
    }
    let input = Activations.random([3, 8], seed: 1)
    var recording = Recording()
    var workspace = Workspace()
    var result = input
    try layers[0].forward(input, recording: &recording, into: &result, workspace: &workspace)
    func backward(_ layer: MoELayer, _ of: MoELayer, _ execution: Execution? = nil) throws {
      try layer.backward(
        input, input: input, recording: &recording, into: &result, gradients: MoEGradients(for: of),
        workspace: &workspace, execution: execution)
    }
    #expect(throws: MoEError.self) { try backward(layers[1], layers[1]) }
    #expect(throws: MoEError.self) { try backward(layers[0], layers[1]) }
    for instructionSet in InstructionSet.supported where try instructionSet != Execution().instructionSet {
      let execution = try Execution(instructionSet: instructionSet)
      #expect(throws: MoEError.self) { try backward(layers[0], layers[0], execution) }
    }
    try backward(layers[0], layers[0])
  }
}

/// All results of one forward pass and its backward pass.
private struct Step: Equatable {
  var output: Matrix
  var inputGradient: Matrix
  var gradients: MoEWeights

  static func outputGradient(for input: Activations) -> Activations { .random(input.shape, seed: 6) }

  init(output: Matrix, inputGradient: Matrix, gradients: MoEWeights) {
    self.output = output
    self.inputGradient = inputGradient
    self.gradients = gradients
  }

  /// Makes a step with its own recording and workspace.
  init(
    _ layer: MoELayer, _ input: Activations, mask: [Bool]? = nil, extent: Recording.Extent,
    execution: Execution
  ) throws {
    var recording = Recording(extent)
    var workspace = Workspace()
    var result = input
    let sums = try MoEGradients(for: layer)
    try layer.forward(
      input, mask: mask, recording: &recording, into: &result, workspace: &workspace, execution: execution)
    output = result.tokens
    // The recording does not need the values that the forward pass left in its workspace.
    workspace = Workspace()
    try layer.backward(
      Self.outputGradient(for: input), input: input, recording: &recording, into: &result, gradients: sums,
      workspace: &workspace, execution: execution)
    inputGradient = result.tokens
    gradients = sums.weights(of: layer)
  }
}
