import MoE
import MoEReference

/// The relative RMS error of rows `tokens` of a layer's output against the oracle in Double.
///
/// Expert by expert, so that one expert's parameters are in memory at a time. A token's output does not depend
/// on the others of its batch, so a few rows judge a large one.
func oracleError(
  of output: Activations, for input: Activations, tokens: [Int], weights: RandomWeights
) throws -> Double {
  let shape = weights.shape
  let rows = tokens.map { token in (0..<shape.hiddenSize).map { input.tokens[token, $0] } }
  let sample = try Matrix(rows: tokens.count, columns: shape.hiddenSize, elements: rows.flatMap { $0 })
  let routing = try Reference.route(
    logits: Reference.logits(sample, weights.router()), policy: shape.configuration().routing,
    expertsPerToken: shape.expertsPerToken)
  var expected = rows.map { $0.map { _ in 0.0 } }
  for expert in Set(routing.expertIDs.joined()) {
    let network = weights.expert(expert)
    for (index, ids) in routing.expertIDs.enumerated() {
      guard let choice = ids.firstIndex(of: expert) else { continue }
      let y = Reference.feedForward(rows[index].map(Double.init), network, activation: shape.activation)
      for d in y.indices { expected[index][d] += routing.weights[index][choice] * y[d] }
    }
  }
  let actual = tokens.flatMap { token in (0..<shape.hiddenSize).map { Double(output.tokens[token, $0]) } }
  return relativeRMS(actual, expected.flatMap { $0 })
}

extension Shape {
  /// What ``oracleError(of:for:tokens:weights:)`` may be. fp32: one rounding for each term of the longest
  /// chain. bfloat16: weights and inputs are exact, and the hidden row is rounded once, by at most 2⁻⁸.
  func tolerance(_ precision: Precision) -> Double {
    let chain = roundings(2 * hiddenSize + feedForwardSize + expertsPerToken + 32)
    return precision == .float32 ? chain : chain + 0x1p-8
  }
}
