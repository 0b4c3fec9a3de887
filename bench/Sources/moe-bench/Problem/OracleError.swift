import MoE
import MoEReference

/// Returns the relative RMS error of rows `tokens` of a layer's output against the oracle in Double.
///
/// A token's output does not depend on the others of its batch, so a few rows suffice to check a large batch.
func oracleError(
  of output: Activations, for input: Activations, tokens: [Int], weights: RandomWeights
) throws -> Double {
  let hidden = weights.shape.hiddenSize
  let rows = tokens.flatMap { token in (0..<hidden).map { input.tokens[token, $0] } }
  let expected = try oracleOutput(
    Matrix(rows: tokens.count, columns: hidden, elements: rows), weights: weights)
  let actual = tokens.flatMap { token in (0..<hidden).map { Double(output.tokens[token, $0]) } }
  return relativeRMS(actual, expected.flatMap { $0 })
}

/// Returns the oracle's output for tokens `[T, D]`: expert by expert, so that one expert's parameters are in memory at
/// a time.
func oracleOutput(_ tokens: Matrix, weights: RandomWeights) throws -> [[Double]] {
  let shape = weights.shape
  let routing = try Reference.route(
    logits: Reference.logits(tokens, weights.router()), policy: shape.configuration().routing,
    expertsPerToken: shape.expertsPerToken)
  var output = Array(repeating: Array(repeating: 0.0, count: shape.hiddenSize), count: tokens.rows)
  for expert in Set(routing.expertIDs.joined()) {
    let network = weights.expert(expert)
    for (token, ids) in routing.expertIDs.enumerated() {
      guard let choice = ids.firstIndex(of: expert) else { continue }
      let row = (0..<shape.hiddenSize).map { Double(tokens[token, $0]) }
      let y = Reference.feedForward(row, network, activation: shape.activation)
      for d in y.indices { output[token][d] += routing.weights[token][choice] * y[d] }
    }
  }
  return output
}

extension Shape {
  /// Returns the bound of ``oracleError(of:for:tokens:weights:)``. fp32: one rounding for each term of the longest
  /// chain. bfloat16: weights and inputs are exact, and the hidden row is rounded once, by at most 2⁻⁸.
  func tolerance(_ precision: Precision) -> Double {
    let chain = roundings(2 * hiddenSize + feedForwardSize + expertsPerToken + 32)
    return precision == .float32 ? chain : chain + 0x1p-8
  }

  /// Returns the bound of ``TrainingRun/error(weights:)``. fp32: the same chain, and as much again for the difference
  /// quotient that the gradient is compared with. bfloat16: six roundings by at most 2⁻⁸ lie between a token and its
  /// gradient: of the row, the hidden row, the output's gradient and the gradients of gate and up. Terms of either sign
  /// add as squares.
  func gradientTolerance(_ precision: Precision) -> Double {
    let chain = 2 * roundings(4 * hiddenSize + 3 * feedForwardSize + expertCount + 64)
    return precision == .float32 ? chain : chain + 6 * 0x1p-8
  }
}
