public import MoECore

extension Reference {
  /// Returns the output of the dense branch for one row x `[D]`, and the factors of the experts' sum and of the branch.
  ///
  /// Every token passes the branch, also masked tokens and tokens with dropped choices. The factors are:
  ///
  /// - `shared`: 1 and 1 (DeepSeekMoE §3.2).
  /// - `gatedShared`: 1 for the experts, σ(x·w + b) for the branch (Qwen2-MoE).
  /// - `residual`: the two elements of softmax(x·Wᵀ + b), experts first (DeepSpeed-MoE §4.1).
  public static func denseBranch(
    _ x: [Double], _ branch: MoEConfiguration.DenseBranch, weights: FeedForwardWeights,
    gate: BranchGateWeights?, activation: ActivationFunction, precision: Precision = .exact
  ) -> (output: [Double], expertsFactor: Double, branchFactor: Double) {
    let output = feedForward(x, weights, activation: activation, precision: precision)
    let gateLogits = gate.map { linear(x, $0.weight, bias: $0.bias) } ?? []
    switch branch {
    case .shared:
      return (output, 1, 1)
    case .gatedShared:
      return (output, 1, sigmoid(gateLogits[0]))
    case .residual:
      let coefficients = softmax(gateLogits)
      return (output, coefficients[0], coefficients[1])
    }
  }
}
