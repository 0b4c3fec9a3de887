public import MoECore

/// The values of a ``LayerCase``: everything that a layer needs for one forward pass.
public struct LayerProblem: Sendable {
  /// The configuration of the layer.
  public let configuration: MoEConfiguration
  /// The parameters of the layer.
  public let weights: MoEWeights
  /// The activations `[batch, sequence, D]`.
  public let input: Activations
  /// `[T]`: true for each token that takes part; nil if all tokens do.
  public let mask: [Bool]?

  /// Makes a problem from given values, without a case.
  public init(configuration: MoEConfiguration, weights: MoEWeights, input: Activations, mask: [Bool]? = nil) {
    (self.configuration, self.weights, self.input, self.mask) = (configuration, weights, input, mask)
  }
}

extension LayerCase {
  /// Returns the configuration of the case.
  public func configuration() throws(MoEError) -> MoEConfiguration {
    try MoEConfiguration(
      hiddenSize: hiddenSize, feedForwardSize: feedForwardSize, expertCount: expertCount,
      expertsPerToken: expertsPerToken, activation: activation, routing: policy, denseBranch: denseBranch)
  }

  /// Returns the problem of the case, with the same numbers on every machine.
  public func problem() throws -> LayerProblem {
    let configuration = try configuration()
    var generator = SeededGenerator(seed: seed ^ 0x5EED)
    var weights = MoEWeights.random(for: configuration, seed: generator.next())
    if hasBiases { addBiases(to: &weights, using: &generator) }
    if hasSelectionBias {
      weights.routerWeights.selectionBias = generator.normals(expertCount, deviation: 0.5)
    }
    temperament.bend(&weights.routerWeights, using: &generator)
    let tokens = Matrix.normal(
      rows: tokenCount, columns: hiddenSize, deviation: temperament.activationScale, using: &generator)
    let input = try Activations(shape: [batchSize, sequenceLength, hiddenSize], tokens: tokens)
    let mask = isMasked ? (0..<tokenCount).map { _ in generator.next() % 4 != 0 } : nil
    return LayerProblem(configuration: configuration, weights: weights, input: input, mask: mask)
  }

  private func addBiases(to weights: inout MoEWeights, using generator: inout SeededGenerator) {
    func add(to network: inout FeedForwardWeights) {
      if let gate = network.gate { network.gateBias = generator.normals(gate.rows, deviation: 0.1) }
      network.upBias = generator.normals(network.up.rows, deviation: 0.1)
      network.downBias = generator.normals(network.down.rows, deviation: 0.1)
    }
    weights.routerWeights.bias = generator.normals(expertCount, deviation: 0.1)
    for expert in weights.experts.indices { add(to: &weights.experts[expert]) }
    if weights.dense != nil { add(to: &weights.dense!) }
    if let gate = weights.denseGate {
      weights.denseGate!.bias = generator.normals(gate.weight.rows, deviation: 0.1)
    }
  }
}

extension SeededGenerator {
  /// Returns a random element of `choices`.
  public mutating func pick<Choice>(_ choices: [Choice]) -> Choice {
    choices[Int(next() % UInt64(choices.count))]
  }

  /// Returns `count` nearly normal values with mean 0.
  public mutating func normals(_ count: Int, deviation: Float) -> [Float] {
    (0..<count).map { _ in normal() * deviation }
  }
}
