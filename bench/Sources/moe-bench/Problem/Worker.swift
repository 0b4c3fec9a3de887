import MoE

/// A layer and its runs, one for each number of tokens that has been asked for.
final class Worker {
  private let weights: RandomWeights
  private let execution: Execution
  private let layer: MoELayer
  private var runs: [Int: LayerRun] = [:]

  init(weights: RandomWeights, execution: Execution) throws {
    self.weights = weights
    self.execution = execution
    layer = try MoELayer(
      weights.shape.configuration(), weights: weights, precision: weights.precision, execution: execution)
  }

  /// The relative RMS error against the oracle on 16 tokens.
  func error() throws -> Double {
    try run(tokenCount: 16).error(tokens: 16, weights: weights)
  }

  /// The seconds of calls for at least `limit` seconds, after an untimed call, which large batches need only
  /// once: they fill no cache that the other workers would not empty within one call.
  func times(tokenCount: Int, seconds limit: Double) throws -> [Double] {
    let isNew = runs[tokenCount] == nil
    let run = run(tokenCount: tokenCount)
    if isNew || tokenCount < 256 { try run.forward() }
    var times: [Double] = []
    var total = 0.0
    repeat {
      let time = try seconds(run.forward)
      times.append(time)
      total += time
    } while total < limit
    return times
  }

  private func run(tokenCount: Int) -> LayerRun {
    if let run = runs[tokenCount] { return run }
    let inputs = randomInputs(
      tokenCount: tokenCount, shape: weights.shape, precision: weights.precision, large: 2)
    let run = LayerRun(layer, inputs: inputs, execution: execution)
    runs[tokenCount] = run
    return run
  }
}
