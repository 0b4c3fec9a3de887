import ArgumentParser
import MoE

/// The sizes of a layer.
struct Shape: Encodable {
  let name: String
  let hiddenSize: Int
  let feedForwardSize: Int
  let expertCount: Int
  let expertsPerToken: Int
  /// Whether the activation is SwiGLU; otherwise it is ReLU without a gate.
  let isGated: Bool

  /// Switch Transformer's base layer, an eighth of Mixtral's, and Qwen3-30B-A3B's: the shapes with which the peers are
  /// timed.
  static let all = [
    Shape(
      name: "S1", hiddenSize: 512, feedForwardSize: 2048, expertCount: 8, expertsPerToken: 2, isGated: false),
    Shape(
      name: "S2", hiddenSize: 1024, feedForwardSize: 3584, expertCount: 8, expertsPerToken: 2, isGated: true),
    Shape(
      name: "S3", hiddenSize: 2048, feedForwardSize: 768, expertCount: 128, expertsPerToken: 8,
      isGated: true),
  ]

  var activation: ActivationFunction { isGated ? .swiGLU : .relu }

  /// Returns a configuration with softmax over all experts, top-k, normalised.
  func configuration() throws(MoEError) -> MoEConfiguration {
    try MoEConfiguration(
      hiddenSize: hiddenSize, feedForwardSize: feedForwardSize, expertCount: expertCount,
      expertsPerToken: expertsPerToken, activation: activation, routing: .softmaxTopK(normalized: true))
  }

  /// The number of weights of one expert's first product, and of its second.
  var upWeights: Int { (isGated ? 2 : 1) * hiddenSize * feedForwardSize }
  var downWeights: Int { hiddenSize * feedForwardSize }

  /// The FLOPs of the experts for one token.
  var expertFlopsPerToken: Double { 2 * Double(expertsPerToken * (upWeights + downWeights)) }
}

extension Shape: ExpressibleByArgument {
  init?(argument: String) {
    guard let shape = Shape.all.first(where: { $0.name == argument.uppercased() }) else { return nil }
    self = shape
  }

  static var allValueStrings: [String] { all.map(\.name) }
  var defaultValueDescription: String { name }
}
