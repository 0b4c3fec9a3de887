public import MoECore

extension Reference {
  /// The gradients of one network's parameters, with the shapes of `FeedForwardWeights`.
  public struct FeedForwardGradients: Sendable, Equatable {
    /// `[F, D]`; nil if the activation has no gate.
    public var gate: [[Double]]?
    /// `[F, D]`.
    public var up: [[Double]]
    /// `[D, F]`.
    public var down: [[Double]]
    /// `[F]`; nil if the activation has no gate. Bias gradients are computed even if the network has no biases.
    public var gateBias: [Double]?
    /// `[F]`.
    public var upBias: [Double]
    /// `[D]`.
    public var downBias: [Double]

    /// Makes gradients of zeros for a network with these parameters.
    public init(zerosFor weights: FeedForwardWeights) {
      gate = weights.gate.map { zeros($0.rows, $0.columns) }
      up = zeros(weights.up.rows, weights.up.columns)
      down = zeros(weights.down.rows, weights.down.columns)
      gateBias = weights.gate.map { Array(repeating: 0, count: $0.rows) }
      upBias = Array(repeating: 0, count: weights.up.rows)
      downBias = Array(repeating: 0, count: weights.down.rows)
    }

    /// Adds the gradients of one row's three products.
    mutating func add(gate g: LinearGradients?, up u: LinearGradients, down d: LinearGradients) {
      if let g {
        gate = sum(gate!, g.weight)
        gateBias = sum(gateBias!, g.bias)
      }
      (up, upBias) = (sum(up, u.weight), sum(upBias, u.bias))
      (down, downBias) = (sum(down, d.weight), sum(downBias, d.bias))
    }
  }

  /// Computes the backward pass of one network for one row. It returns dL/dx `[D]` and adds to the gradients of the
  /// parameters.
  ///
  /// With u = x·upᵀ + b_u, g = x·gateᵀ + b_g, h = act(g, u) and y = h·downᵀ + b_d: dL/dh is dL/dy·down, dL/dg
  /// and dL/du are dL/dh times the activation's derivatives, and dL/dx is dL/du·up + dL/dg·gate.
  ///
  /// - Parameters:
  ///   - x: the input row `[D]`.
  ///   - weights: the network's parameters.
  ///   - function: the activation between the products.
  ///   - outputGradient: the gradient dL/dy `[D]`.
  ///   - gradients: the sums to which the gradients are added.
  public static func feedForwardBackward(
    _ x: [Double], _ weights: FeedForwardWeights, activation function: ActivationFunction,
    outputGradient: [Double], into gradients: inout FeedForwardGradients
  ) -> [Double] {
    let u = linear(x, weights.up, bias: weights.upBias)
    let g = weights.gate.map { linear(x, $0, bias: weights.gateBias) } ?? u
    let h = u.indices.map { activation(function, gate: g[$0], up: u[$0]) }
    let down = linearBackward(h, weights.down, outputGradient: outputGradient)
    let slopes = u.indices.map { activationBackward(function, gate: g[$0], up: u[$0]) }
    let up = linearBackward(
      x, weights.up, outputGradient: zip(down.input, slopes).map { $0 * $1.up })
    let gate = weights.gate.map {
      linearBackward(x, $0, outputGradient: zip(down.input, slopes).map { $0 * $1.gate })
    }
    gradients.add(gate: gate, up: up, down: down)
    return gate.map { sum(up.input, $0.input) } ?? up.input
  }

  /// Computes the backward pass of the experts for all kept rows. It returns dL/dz `[M, D]` and the gradients of each
  /// expert's parameters, which are zeros for an expert without rows.
  ///
  /// - Parameters:
  ///   - inputs: the experts' inputs z `[M, D]` from ``gather(_:permutation:weights:placement:)``.
  ///   - permutation: the rows of the kept choices.
  ///   - experts: the parameters of each expert.
  ///   - activation: the activation between the products.
  ///   - outputGradient: the gradient dL/dy `[M, D]`.
  public static func expertsBackward(
    _ inputs: [[Double]], permutation: Permutation, experts: [FeedForwardWeights],
    activation: ActivationFunction, outputGradient: [[Double]]
  ) -> (inputs: [[Double]], parameters: [FeedForwardGradients]) {
    var parameters = experts.map(FeedForwardGradients.init(zerosFor:))
    let inputGradient = inputs.enumerated().map { row, z in
      let expert = permutation.expert(ofRow: row)
      return feedForwardBackward(
        z, experts[expert], activation: activation, outputGradient: outputGradient[row],
        into: &parameters[expert])
    }
    return (inputGradient, parameters)
  }
}
