public import MoECore

extension Reference {
  /// The gradients that the dense branch computes for one token.
  public struct DenseGradients: Sendable, Equatable {
    /// dL/dx `[D]`, through the network and its gate.
    public var x: [Double]
    /// The gradient of the experts' sum `[D]`.
    public var experts: [Double]
    /// The gradients of the gate's parameters; nil if the branch has no gate.
    public var gate: LinearGradients?
  }

  /// Computes for one token the backward pass of out = a·experts + b·y, with (y, a, b) from
  /// ``denseBranch(_:_:weights:gate:activation:precision:)``.
  ///
  /// dL/dy = b·dL/dout, dL/da = dL/dout·experts and dL/db = dL/dout·y. The gradient of the gate's logits follows from
  /// dL/da and dL/db by the derivative of the sigmoid or the softmax.
  ///
  /// - Parameters:
  ///   - x: the token `[D]`.
  ///   - branch: the kind of dense branch.
  ///   - weights: the parameters of the branch's network.
  ///   - gate: the parameters of the branch's gate; nil if it has none.
  ///   - activation: the activation between the products.
  ///   - expertsSum: the experts' sum `[D]`; zero for a masked token, which still passes the branch.
  ///   - outputGradient: the gradient dL/dout `[D]`.
  ///   - gradients: the gradients of the branch's network, to which those of this token are added.
  public static func denseBranchBackward(
    _ x: [Double], _ branch: MoEConfiguration.DenseBranch, weights: FeedForwardWeights,
    gate: BranchGateWeights?, activation: ActivationFunction, expertsSum: [Double],
    outputGradient: [Double], into gradients: inout FeedForwardGradients
  ) -> DenseGradients {
    let (y, a, b) = denseBranch(x, branch, weights: weights, gate: gate, activation: activation)
    let ofExperts = dot(outputGradient, expertsSum)
    let ofBranch = dot(outputGradient, y)
    let logitsGradient: [Double] =
      switch branch {
      case .shared: []
      case .gatedShared: [ofBranch * b * (1 - b)]
      case .residual: softmaxBackward([a, b], gradient: [ofExperts, ofBranch])
      }
    let ofGate = gate.map { linearBackward(x, $0.weight, outputGradient: logitsGradient) }
    let ofNetwork = feedForwardBackward(
      x, weights, activation: activation, outputGradient: outputGradient.map { b * $0 }, into: &gradients)
    return DenseGradients(
      x: ofGate.map { sum(ofNetwork, $0.input) } ?? ofNetwork,
      experts: outputGradient.map { a * $0 }, gate: ofGate)
  }
}
