package import ExpertParallel
package import MoE
package import MoECore

/// The measured seconds of the passes of one layer.
package struct LayerMeasurement: Sendable {
  package var forward: Double
  package var backward: Double
  /// `[E]`: the choices of each expert.
  package var load: [Double] = []

  var step: Double { forward + backward }

  /// Returns the medians of several measurements.
  static func median(_ measurements: [LayerMeasurement]) -> LayerMeasurement {
    LayerMeasurement(
      forward: Stopwatch.median(measurements.map(\.forward)),
      backward: Stopwatch.median(measurements.map(\.backward)), load: measurements[0].load)
  }

  /// Measures `MoELayer` in this process, for at least `seconds` and four passes, of which the first is not counted.
  package static func single(
    _ problem: LayerProblem, weights: MoEWeights, execution: Execution, seconds: Double
  ) throws -> LayerMeasurement {
    let layer = try MoELayer(problem.configuration(), weights: weights, execution: execution)
    let input = Activations.random([problem.tokenCount, problem.hiddenSize], seed: 2)
    let gradient = Activations.random([problem.tokenCount, problem.hiddenSize], seed: 3)
    let gradients = try MoEGradients(for: layer)
    var recording = Recording()
    var workspace = Workspace()
    var (output, inputGradient) = (input, input)
    var (forward, backward): ([Double], [Double]) = ([], [])
    let end = Stopwatch.now() + seconds
    while forward.count < 4 || Stopwatch.now() < end {
      let start = Stopwatch.now()
      try layer.forward(
        input, recording: &recording, into: &output, workspace: &workspace, execution: execution)
      let middle = Stopwatch.now()
      try layer.backward(
        gradient, input: input, recording: &recording, into: &inputGradient, gradients: gradients,
        workspace: &workspace, execution: execution)
      forward.append(middle - start)
      backward.append(Stopwatch.now() - middle)
    }
    return LayerMeasurement(
      forward: Stopwatch.median(Array(forward.dropFirst())),
      backward: Stopwatch.median(Array(backward.dropFirst())))
  }

  /// Measures `ExpertParallelLayer` over the ranks of a communicator, each with its part of the tokens. A collective:
  /// all ranks make `steps` steps. Returns this rank's times from one barrier to the next.
  package static func spread(
    _ problem: LayerProblem, weights: MoEWeights, over communicator: any Communicator, execution: Execution,
    steps: Int
  ) throws -> LayerMeasurement {
    let (rank, size) = (communicator.rank, communicator.size)
    let layer = try ExpertParallelLayer(
      problem.configuration(), weights: weights, over: communicator,
      exchange: ExchangeOptions(overlap: .slices(1)), execution: execution)
    let tokens = rank * problem.tokenCount / size..<(rank + 1) * problem.tokenCount / size
    let shape = [tokens.count, problem.hiddenSize]
    let input = Activations.random(shape, seed: 100 + UInt64(rank))
    let gradient = Activations.random(shape, seed: 200 + UInt64(rank))
    let gradients = try layer.makeGradients()
    var recording = ExpertParallelRecording()
    var workspace = ExpertParallelWorkspace()
    var (output, inputGradient) = (input, input)
    var (forward, backward): ([Double], [Double]) = ([], [])
    var load: [Double] = []
    for _ in 0...steps {
      try communicator.barrier(during: "a measured step")
      let start = Stopwatch.now()
      try layer.forward(
        input, recording: &recording, into: &output, workspace: &workspace, execution: execution)
      load = recording.record.counts.map(Double.init)
      try communicator.barrier(during: "a measured step")
      let middle = Stopwatch.now()
      try layer.backward(
        gradient, input: input, recording: &recording, into: &inputGradient, gradients: gradients,
        workspace: &workspace, execution: execution)
      try communicator.barrier(during: "a measured step")
      forward.append(middle - start)
      backward.append(Stopwatch.now() - middle)
    }
    let sums = try communicator.allReduce(load, .sum, during: "the measured load")
    return LayerMeasurement(
      forward: Stopwatch.median(Array(forward.dropFirst())),
      backward: Stopwatch.median(Array(backward.dropFirst())), load: sums)
  }
}
