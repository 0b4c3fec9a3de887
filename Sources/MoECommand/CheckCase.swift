import MoE

/// A layer that `moe check` computes: a policy with an activation and a dense branch of its own. No size is a multiple of
/// a tile's.
struct CheckCase: Sendable {
  let name: String
  let routing: RoutingPolicy
  let expertsPerToken: Int
  let activation: ActivationFunction
  var branch: MoEConfiguration.DenseBranch?

  static let all = [
    CheckCase(
      name: "switch", routing: .switchTransformer(capacity: .meshTensorFlow(factor: 1)), expertsPerToken: 1,
      activation: .relu),
    CheckCase(
      name: "gshard-top2", routing: .gshardTop2(capacity: .lingvo(factor: 1.5)), expertsPerToken: 2,
      activation: .geGLU),
    CheckCase(
      name: "softmax-topk", routing: .softmaxTopK(normalized: true), expertsPerToken: 2, activation: .swiGLU),
    CheckCase(
      name: "topk-softmax", routing: .topKSoftmax, expertsPerToken: 4,
      activation: .clampedSwiGLU(alpha: 1.702, limit: 7)),
    CheckCase(
      name: "deepseek-v3", routing: .deepseekV3(groups: 4, selectedGroups: 2, normalized: true, scale: 2.5),
      expertsPerToken: 3, activation: .swiGLU, branch: .shared(feedForwardSize: 70)),
    CheckCase(
      name: "sparsemixer", routing: RoutingPolicy(scoring: .sparseMixer(jitter: 0.01)), expertsPerToken: 2,
      activation: .gelu),
    CheckCase(
      name: "llama4", routing: .llama4, expertsPerToken: 1, activation: .swiGLU,
      branch: .gatedShared(feedForwardSize: 40)),
    CheckCase(
      name: "residual", routing: .gshardTop2(), expertsPerToken: 2, activation: .geluTanh,
      branch: .residual(feedForwardSize: 40)),
  ]

  /// 160 tokens in four sequences.
  let input = Activations.random([4, 40, 97], seed: 2)

  func configuration() throws -> MoEConfiguration {
    try MoEConfiguration(
      hiddenSize: 97, feedForwardSize: 65, expertCount: 16, expertsPerToken: expertsPerToken,
      activation: activation, routing: routing, denseBranch: branch)
  }
}

/// Returns √(Σ(actual − expected)²/Σ expected²).
func relativeRMS(_ actual: [Float], _ expected: [Double]) -> Double {
  var difference = 0.0
  var size = 0.0
  for (a, e) in zip(actual, expected) {
    difference += (Double(a) - e) * (Double(a) - e)
    size += e * e
  }
  return difference == 0 ? 0 : (difference / size).squareRoot()
}
