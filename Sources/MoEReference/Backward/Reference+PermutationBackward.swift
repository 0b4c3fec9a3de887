public import MoECore

extension Reference {
  /// Computes the backward pass of ``gather(_:permutation:weights:placement:)``: dL/dx[t] = Σₛ dL/dz[row of (t, s)]
  /// over the kept choices s, added in the same order in which combine adds the outputs.
  ///
  /// If weights multiply the input, z = w·x: each term is multiplied by its weight, and dL/dw[t, s] = dL/dz·x[t].
  /// Otherwise dL/dw is 0 here. For a dropped choice dL/dw is always 0.
  ///
  /// - Parameters:
  ///   - x: the tokens `[T, D]`.
  ///   - permutation: the rows of the kept choices.
  ///   - weights: the routing weights `[T, K]`.
  ///   - placement: whether weights multiply the input or the output of an expert.
  ///   - rowGradient: the gradient dL/dz `[M, D]`.
  /// - Returns: dL/dx `[T, D]` and dL/dw `[T, K]`.
  public static func gatherBackward(
    _ x: [[Double]], permutation: Permutation, weights: [[Double]],
    placement: RoutingPolicy.WeightPlacement = .output, rowGradient: [[Double]]
  ) -> (x: [[Double]], weights: [[Double]]) {
    var xGradient = x.map { $0.map { _ in 0.0 } }
    var weightGradient = weights.map { $0.map { _ in 0.0 } }
    for (token, rowsOfChoices) in permutation.slotRow.enumerated() {
      for (choice, row) in rowsOfChoices.enumerated() where row >= 0 {
        let weight = placement == .input ? weights[token][choice] : 1
        xGradient[token] = sum(xGradient[token], rowGradient[row].map { weight * $0 })
        if placement == .input { weightGradient[token][choice] = dot(rowGradient[row], x[token]) }
      }
    }
    return (xGradient, weightGradient)
  }
}
