public import MoECore

extension Reference {
  /// Returns out[t] = Σₛ w[t, s]·y[row of (t, s)] over the kept choices s of each token, in order; zero if none is
  /// kept.
  ///
  /// A dropped choice adds nothing, and the weights of the other choices do not grow (Switch Transformer §2.2).
  /// Weights that multiplied the input are not applied again.
  ///
  /// - Parameters:
  ///   - outputs: the experts' outputs y `[M, D]`.
  ///   - permutation: the rows of the kept choices.
  ///   - weights: the routing weights `[T, K]`.
  ///   - hiddenSize: the hidden size D.
  ///   - placement: whether weights multiply the input or the output of an expert.
  public static func combine(
    _ outputs: [[Double]], permutation: Permutation, weights: [[Double]], hiddenSize: Int,
    placement: RoutingPolicy.WeightPlacement = .output
  ) -> [[Double]] {
    permutation.slotRow.indices.map { token in
      var sum = Array(repeating: 0.0, count: hiddenSize)
      for (choice, row) in permutation.slotRow[token].enumerated() where row >= 0 {
        let weight = placement == .output ? weights[token][choice] : 1
        for d in 0..<hiddenSize { sum[d] += weight * outputs[row][d] }
      }
      return sum
    }
  }
}
