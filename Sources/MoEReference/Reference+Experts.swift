public import MoECore

extension Reference {
  /// Returns the output of one feed-forward network for one row: y = act(x·gateᵀ + b_g, x·upᵀ + b_u)·downᵀ + b_d.
  ///
  /// x `[D]`, gate and up `[F, D]`, down `[D, F]`, y `[D]`.
  public static func feedForward(
    _ x: [Double], _ weights: FeedForwardWeights, activation function: ActivationFunction,
    precision: Precision = .exact
  ) -> [Double] {
    let u = linear(x, weights.up, bias: weights.upBias, precision: precision)
    let g = weights.gate.map { linear(x, $0, bias: weights.gateBias, precision: precision) } ?? u
    let h = u.indices.map { activation(function, gate: g[$0], up: u[$0]) }
    return linear(h, weights.down, bias: weights.downBias, precision: precision)
  }

  /// Returns the experts' inputs z `[M, D]`: for each kept row, the row of x that belongs to its token.
  ///
  /// If the policy places weights on the input, each row is multiplied by its weight (Llama 4).
  ///
  /// - Parameters:
  ///   - x: the tokens `[T, D]`.
  ///   - permutation: the rows of the kept choices.
  ///   - weights: the routing weights `[T, K]`.
  ///   - placement: whether weights multiply the input or the output of an expert.
  public static func gather(
    _ x: [[Double]], permutation: Permutation, weights: [[Double]],
    placement: RoutingPolicy.WeightPlacement = .output
  ) -> [[Double]] {
    var gathered = Array(repeating: [Double](), count: permutation.rowToken.count)
    for (token, rowsOfChoices) in permutation.slotRow.enumerated() {
      for (choice, row) in rowsOfChoices.enumerated() where row >= 0 {
        let weight = placement == .input ? weights[token][choice] : 1
        gathered[row] = x[token].map { weight * $0 }
      }
    }
    return gathered
  }

  /// Applies to each kept row its expert; returns the outputs y `[M, D]` in the order of the rows.
  ///
  /// - Parameters:
  ///   - x: the tokens `[T, D]`.
  ///   - permutation: the rows of the kept choices.
  ///   - routingWeights: the routing weights `[T, K]`.
  ///   - experts: the parameters of each expert.
  ///   - activation: the activation between the products.
  ///   - placement: whether weights multiply the input or the output of an expert.
  ///   - precision: the precision that is reproduced.
  public static func experts(
    _ x: Matrix, permutation: Permutation, routingWeights: [[Double]], experts: [FeedForwardWeights],
    activation: ActivationFunction, placement: RoutingPolicy.WeightPlacement = .output,
    precision: Precision = .exact
  ) -> [[Double]] {
    let inputs = gather(rows(x), permutation: permutation, weights: routingWeights, placement: placement)
    return inputs.enumerated().map { row, z in
      feedForward(
        z, experts[permutation.expert(ofRow: row)], activation: activation, precision: precision)
    }
  }
}

extension Reference.Permutation {
  /// The expert e with `offsets[e] ≤ row < offsets[e + 1]`.
  func expert(ofRow row: Int) -> Int {
    offsets.lastIndex { $0 <= row }!
  }
}
