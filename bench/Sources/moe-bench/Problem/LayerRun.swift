import MoE

/// A layer with inputs that take turns and storage that is reused, for steady-state forward passes.
final class LayerRun {
  private let layer: MoELayer
  private let execution: Execution
  private let inputs: [Activations]
  private var output: Activations
  private var record = RoutingRecord()
  private var workspace = Workspace()
  private var turn = 0

  init(_ layer: MoELayer, inputs: [Activations], execution: Execution) {
    self.layer = layer
    self.execution = execution
    self.inputs = inputs
    output = inputs[0]
  }

  /// Computes one forward pass of the next input.
  func forward() throws {
    turn = (turn + 1) % inputs.count
    try layer.forward(
      inputs[turn], into: &output, record: &record, workspace: &workspace, execution: execution)
  }

  /// Returns the error of one forward pass on up to `count` of its tokens, spread over the batch.
  func error(tokens count: Int, weights: RandomWeights) throws -> Double {
    try forward()
    let tokenCount = inputs[turn].tokenCount
    let sampled = min(count, tokenCount)
    let tokens = (0..<sampled).map { $0 * tokenCount / sampled }
    return try oracleError(of: output, for: inputs[turn], tokens: tokens, weights: weights)
  }

  /// Returns the mean number of experts that have rows, over all inputs.
  func meanExpertsUsed() throws -> Double {
    var used: [Double] = []
    for _ in inputs {
      try forward()
      used.append(Double(record.counts.count { $0 > 0 }))
    }
    return used.mean
  }
}
