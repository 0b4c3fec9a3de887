public import MoECore

extension Reference {
  /// Computes the backward pass of ``combine(_:permutation:weights:hiddenSize:placement:)``. For the row y of the
  /// choice (t, s), dL/dy = w[t, s]·dL/dout[t] and dL/dw[t, s] = dL/dout[t]·y.
  ///
  /// If weights multiply the input, dL/dy = dL/dout[t], and dL/dw is 0 here. A dropped choice has no row, so its dL/dw
  /// is 0.
  ///
  /// - Parameters:
  ///   - outputs: the experts' outputs y `[M, D]`.
  ///   - permutation: the rows of the kept choices.
  ///   - weights: the routing weights `[T, K]`.
  ///   - placement: whether weights multiply the input or the output of an expert.
  ///   - outputGradient: the gradient dL/dout `[T, D]`.
  /// - Returns: dL/dy `[M, D]` and dL/dw `[T, K]`.
  public static func combineBackward(
    _ outputs: [[Double]], permutation: Permutation, weights: [[Double]],
    placement: RoutingPolicy.WeightPlacement = .output, outputGradient: [[Double]]
  ) -> (rows: [[Double]], weights: [[Double]]) {
    var rowGradient = outputs.map { $0.map { _ in 0.0 } }
    var weightGradient = weights.map { $0.map { _ in 0.0 } }
    for (token, rowsOfChoices) in permutation.slotRow.enumerated() {
      for (choice, row) in rowsOfChoices.enumerated() where row >= 0 {
        let weight = placement == .output ? weights[token][choice] : 1
        rowGradient[row] = outputGradient[token].map { weight * $0 }
        if placement == .output {
          weightGradient[token][choice] = dot(outputGradient[token], outputs[row])
        }
      }
    }
    return (rowGradient, weightGradient)
  }
}
