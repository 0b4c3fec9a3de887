public import MoECore

/// The layer of GShard (Lepikhin et al. 2020, Algorithm 1) and GLaM (Du et al. 2022, §3): two experts per token,
/// weighted by their probabilities divided by the sum of the two.
public struct Top2Layer: Sendable {
  /// The general layer that this one specialises.
  public let layer: MoELayer

  /// Makes a layer.
  ///
  /// - Parameters:
  ///   - hiddenSize: D.
  ///   - feedForwardSize: F.
  ///   - expertCount: E.
  ///   - activation: the activation function, ReLU as in GShard; GLaM's is `.geGLU`.
  ///   - capacity: the capacity of the experts, nil for dropless; GShard's is `.lingvo(factor: 2)`.
  ///   - weights: the parameters; nil for random ones from `seed`.
  ///   - seed: the seed of the random weights.
  /// - Throws: `MoEError` for sizes or parameters that do not fit.
  public init(
    hiddenSize: Int, feedForwardSize: Int, expertCount: Int, activation: ActivationFunction = .relu,
    capacity: CapacityRule? = nil, weights: MoEWeights? = nil, seed: UInt64 = 0
  ) throws {
    let configuration = try MoEConfiguration(
      hiddenSize: hiddenSize, feedForwardSize: feedForwardSize, expertCount: expertCount, expertsPerToken: 2,
      activation: activation, routing: .gshardTop2(capacity: capacity))
    layer = try MoELayer(configuration, weights: weights ?? .random(for: configuration, seed: seed))
  }

  /// Applies the layer to activations `[…, D]`: see ``MoELayer/callAsFunction(_:mask:execution:)``.
  public func callAsFunction(
    _ input: Activations, mask: [Bool]? = nil, execution: Execution? = nil
  ) throws(MoEError) -> (output: Activations, record: RoutingRecord) {
    try layer(input, mask: mask, execution: execution)
  }
}
