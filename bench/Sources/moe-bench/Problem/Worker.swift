import MoE

/// A layer and its calls, one for each requested number of tokens: forward passes, or training steps.
final class Worker {
  private let weights: RandomWeights
  private let execution: Execution
  private let trains: Bool
  private let layer: MoELayer
  private var calls: [Int: () throws -> Void] = [:]

  init(weights: RandomWeights, trains: Bool, execution: Execution) throws {
    self.weights = weights
    self.trains = trains
    self.execution = execution
    layer = try MoELayer(
      weights.shape.configuration(), weights: weights, precision: weights.precision, execution: execution)
  }

  /// Returns the relative RMS error against the oracle on 16 tokens, or that of a gradient along a direction.
  func error() throws -> Double {
    let inputs = inputs(tokenCount: 16)
    return trains
      ? try TrainingRun(layer, input: inputs[0], execution: execution).error(weights: weights)
      : try LayerRun(layer, inputs: inputs, execution: execution).error(tokens: 16, weights: weights)
  }

  /// Returns the seconds of each call, for at least `limit` seconds after an untimed call. Large batches need the
  /// untimed call only once: the other workers would empty any cache within one call.
  func times(tokenCount: Int, seconds limit: Double) throws -> [Double] {
    let isNew = calls[tokenCount] == nil
    let call = try call(tokenCount: tokenCount)
    if isNew || tokenCount < 256 { try call() }
    var times: [Double] = []
    var total = 0.0
    repeat {
      let time = try seconds(call)
      times.append(time)
      total += time
    } while total < limit
    return times
  }

  private func call(tokenCount: Int) throws -> () throws -> Void {
    if let call = calls[tokenCount] { return call }
    let inputs = inputs(tokenCount: tokenCount)
    let call =
      trains
      ? try TrainingRun(layer, input: inputs[0], execution: execution).step
      : LayerRun(layer, inputs: inputs, execution: execution).forward
    calls[tokenCount] = call
    return call
  }

  private func inputs(tokenCount: Int) -> [Activations] {
    randomInputs(tokenCount: tokenCount, shape: weights.shape, precision: weights.precision, large: 2)
  }
}
