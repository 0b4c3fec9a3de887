import MoE

/// A layer with the state of a training step: a recorded forward pass, its backward pass, and the sums of the
/// gradients.
final class TrainingRun {
  private let layer: MoELayer
  private let execution: Execution
  private let input: Activations
  private let outputGradient: Activations
  private let gradients: MoEGradients
  private var output: Activations
  private var inputGradient: Activations
  private var recording = Recording()
  private var workspace = Workspace()

  init(_ layer: MoELayer, input: Activations, execution: Execution) throws {
    self.layer = layer
    self.execution = execution
    self.input = input
    outputGradient = .random(input.shape, seed: 11)
    gradients = try MoEGradients(for: layer)
    output = input
    inputGradient = input
  }

  /// Computes one forward pass and one backward pass.
  func step() throws {
    try layer.forward(
      input, recording: &recording, into: &output, workspace: &workspace, execution: execution)
    try layer.backward(
      outputGradient, input: input, recording: &recording, into: &inputGradient, gradients: gradients,
      workspace: &workspace, execution: execution)
  }

  /// Returns the error of the input's gradient along one direction v, against (L(x + h·v) − L(x − h·v))/2h of the
  /// oracle in Double, with L the output times its gradient. Only the token with the largest margin moves, and only its
  /// output counts. The difference is divided by √Σ(gᵢ·vᵢ)², the size of such a sum of terms of either sign.
  func error(weights: RandomWeights) throws -> Double {
    try step()
    let margins = recording.record.margins
    let token = margins.indices.max { margins[$0] < margins[$1] } ?? 0
    let width = input.tokens.columns
    let direction = Activations.random([1, width], seed: 12).tokens
    let h: Float = 0x1p-7
    var moved = Matrix(rows: 2, columns: width)
    for (row, sign) in [Float(1), -1].enumerated() {
      for column in 0..<width {
        moved[row, column] = input.tokens[token, column] + sign * h * direction[0, column]
      }
    }
    let outputs = try oracleOutput(moved, weights: weights)
    var expected = 0.0
    var found = 0.0
    var squares = 0.0
    for column in 0..<width {
      expected +=
        (outputs[0][column] - outputs[1][column]) / (2 * Double(h))
        * Double(outputGradient.tokens[token, column])
      let term = Double(inputGradient.tokens[token, column]) * Double(direction[0, column])
      found += term
      squares += term * term
    }
    return abs(found - expected) / squares.squareRoot()
  }
}
