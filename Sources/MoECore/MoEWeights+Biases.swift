extension MoEWeights {
  /// Returns the parameters with every missing bias replaced by zeros: the biases of the router, of each projection of
  /// the experts and of the dense branch, and of the branch's gate.
  ///
  /// The layer's output stays the same, but training then learns the biases.
  public func withBiases() -> MoEWeights {
    func zeros(_ bias: [Float]?, like weight: Matrix) -> [Float] {
      bias ?? Array(repeating: 0, count: weight.rows)
    }
    func biased(_ network: FeedForwardWeights) -> FeedForwardWeights {
      var network = network
      network.gateBias = network.gate.map { zeros(network.gateBias, like: $0) }
      network.upBias = zeros(network.upBias, like: network.up)
      network.downBias = zeros(network.downBias, like: network.down)
      return network
    }
    var weights = self
    weights.routerWeights.bias = zeros(routerWeights.bias, like: routerWeights.weight)
    weights.experts = experts.map(biased)
    weights.dense = dense.map(biased)
    weights.denseGate = denseGate.map {
      BranchGateWeights(weight: $0.weight, bias: zeros($0.bias, like: $0.weight))
    }
    return weights
  }
}
