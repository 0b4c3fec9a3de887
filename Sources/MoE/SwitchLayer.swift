public import MoECore

/// The layer of Switch Transformer (Fedus et al. 2021, §2): one expert per token, ReLU, no biases. The weight is the
/// router's probability. With a capacity, the latest tokens of a full expert are dropped.
public struct SwitchLayer: Sendable {
  /// The general layer that this one specialises.
  public let layer: MoELayer

  /// Makes a layer.
  ///
  /// - Parameters:
  ///   - hiddenSize: D.
  ///   - feedForwardSize: F.
  ///   - expertCount: E.
  ///   - capacity: the capacity of the experts, nil for dropless; the paper trains with
  ///     `.meshTensorFlow(factor: 1.25)`.
  ///   - weights: the parameters; nil for random ones from `seed`.
  ///   - seed: the seed of the random weights.
  /// - Throws: `MoEError` for sizes or parameters that do not fit.
  public init(
    hiddenSize: Int, feedForwardSize: Int, expertCount: Int, capacity: CapacityRule? = nil,
    weights: MoEWeights? = nil, seed: UInt64 = 0
  ) throws {
    let configuration = try MoEConfiguration(
      hiddenSize: hiddenSize, feedForwardSize: feedForwardSize, expertCount: expertCount, expertsPerToken: 1,
      activation: .relu, routing: .switchTransformer(capacity: capacity))
    layer = try MoELayer(configuration, weights: weights ?? .random(for: configuration, seed: seed))
  }

  /// Applies the layer to activations `[…, D]`: see ``MoELayer/callAsFunction(_:mask:execution:)``.
  public func callAsFunction(
    _ input: Activations, mask: [Bool]? = nil, execution: Execution? = nil
  ) throws(MoEError) -> (output: Activations, record: RoutingRecord) {
    try layer(input, mask: mask, execution: execution)
  }
}
