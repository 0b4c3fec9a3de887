import MoE
import MoECore
import TestSupport
import Testing

/// A batch in parts: the statistics are added, the losses are computed over all parts, and the parts' backward passes
/// add up to that of the whole batch, to the bit.
@Suite struct MicroBatchTests {
  @Test(arguments: InstructionSet.supported)
  func splitBatchesHaveTheGradientsOfTheWhole(_ instructionSet: InstructionSet) {
    checkProperty(seeds: 0..<100) { layerCase in
      var layerCase = layerCase
      layerCase.batchSize = 3
      // A capacity of the batch drops different tokens from those that the capacities of its parts drop.
      layerCase.policy.capacity?.scope = .sequence
      if layerCase.seed % 5 == 0 {
        layerCase.policy.scoring = .sparseMixer(jitter: 0.25)
        layerCase.policy.choice = .best
        layerCase.policy.groups = nil
        layerCase.hasSelectionBias = false
      }
      let problem = try layerCase.problem()
      let layer = try MoELayer(problem.configuration, weights: problem.weights)
      let outputGradient = Activations.random(problem.input.shape, seed: layerCase.seed &+ 9)
      let split = 1 + Int(layerCase.seed % 2)
      var results: [(input: [Float], weights: MoEWeights)] = []
      for ranges in [[0..<3], [0..<split, split..<3]] {
        var first = Recording()
        var second = Recording()
        let parts = try ranges.map { try Pass(problem, outputGradient, sequences: $0) }
        let execution = try Execution(
          instructionSet: instructionSet, threadCount: ranges.count + Int(layerCase.seed % 2))
        let one = try parts[0].forward(layer, &first, execution)
        let two = ranges.count > 1 ? try parts[1].forward(layer, &second, execution) : nil
        let sums = try two.map { two in try zip(one, two).map { try $0 + $1 } } ?? one
        let loss = try Self.losses(sums)
        let gradients = try MoEGradients(for: layer)
        var input = try parts[0].backward(
          layer, &first, loss.gradients.ofSequences(ranges[0]), gradients, execution)
        if ranges.count > 1 {
          input += try parts[1].backward(
            layer, &second, loss.gradients.ofSequences(ranges[1]), gradients, execution)
        }
        results.append((input, gradients.weights(of: layer)))
      }
      try ensure(bits(results[0].input) == bits(results[1].input), "input gradients differ, split \(split)")
      try ensure(results[0].weights == results[1].weights, "parameter gradients differ, split \(split)")
    }
  }

  /// Returns the sum of a loss of every grouping, from the statistics of a batch, its sequences and its positions.
  private static func losses(_ sums: [RouterStatistics]) throws -> RouterLoss {
    let (batch, sequences, positions) = (sums[0], sums[1], sums[2])
    return try batch.switchTransformer(coefficient: 0.5) + batch.importance()
      + sequences.deepSeekV3Sequence(coefficient: 0.25) + positions.variance(.seedPositional)
      + batch.zLoss(coefficient: 0.125)
  }
}

/// Some sequences of a problem.
private struct Pass {
  let input: Activations
  let outputGradient: Activations
  let mask: [Bool]?
  let noise: RouterNoise

  init(_ problem: LayerProblem, _ outputGradient: Activations, sequences: Range<Int>) throws {
    let shape = problem.input.shape
    let tokens = sequences.lowerBound * shape[1]..<sequences.upperBound * shape[1]
    func part(_ whole: Activations) throws -> Activations {
      let elements = whole.tokens.elements[tokens.lowerBound * shape[2]..<tokens.upperBound * shape[2]]
      return try Activations(
        shape: [sequences.count, shape[1], shape[2]],
        tokens: Matrix(rows: tokens.count, columns: shape[2], elements: elements))
    }
    input = try part(problem.input)
    self.outputGradient = try part(outputGradient)
    mask = problem.mask.map { Array($0[tokens]) }
    noise = RouterNoise(seed: 1, firstToken: tokens.lowerBound)
  }

  func forward(
    _ layer: MoELayer, _ recording: inout Recording, _ execution: Execution
  ) throws -> [RouterStatistics] {
    var output = input
    var workspace = Workspace()
    try layer.forward(
      input, mask: mask, noise: noise, recording: &recording, into: &output, workspace: &workspace,
      execution: execution)
    let length = input.shape[1]
    var statistics: [RouterStatistics] = []
    for grouping in [TokenGrouping.batch, .sequence(length: length), .position(length: length)] {
      statistics.append(
        try layer.statistics(
          of: &recording, by: grouping, workspace: &workspace, execution: execution))
    }
    return statistics
  }

  func backward(
    _ layer: MoELayer, _ recording: inout Recording, _ losses: RouterLossGradients,
    _ gradients: MoEGradients, _ execution: Execution
  ) throws -> [Float] {
    var result = input
    var workspace = Workspace()
    try layer.backward(
      outputGradient, input: input, recording: &recording, losses: losses, into: &result,
      gradients: gradients, workspace: &workspace, execution: execution)
    return result.tokens.elements
  }
}
