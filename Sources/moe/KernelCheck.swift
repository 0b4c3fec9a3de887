import MoE
import MoEReference

/// The kernels against the oracle, for every policy and instruction set.
struct KernelCheck {
  let sets: [InstructionSet]
  let threadCount: Int

  /// fp32: γ of the longest chain of multiply-adds, 2·D + F + 64 roundings of 2⁻²⁴, as in `Tests/MoETests`.
  /// bfloat16 has the oracle round the same operands, of which some round the other way: 2⁻⁸ of a few.
  private static func bound(_ precision: Precision, _ configuration: MoEConfiguration) -> Double {
    let roundings = 2 * configuration.hiddenSize + configuration.feedForwardSize + 64
    return precision == .float32 ? Double(roundings) * 0x1p-24 : 0x1p-8
  }

  private struct Row {
    let name: String
    let routing: RoutingPolicy
    let expertsPerToken: Int
    let activation: ActivationFunction
    var branch: MoEConfiguration.DenseBranch?
  }

  private static let rows = [
    Row(
      name: "switch", routing: .switchTransformer(capacity: .meshTensorFlow(factor: 1)), expertsPerToken: 1,
      activation: .relu),
    Row(
      name: "gshard-top2", routing: .gshardTop2(capacity: .lingvo(factor: 1.5)), expertsPerToken: 2,
      activation: .geGLU),
    Row(
      name: "softmax-topk", routing: .softmaxTopK(normalized: true), expertsPerToken: 2, activation: .swiGLU),
    Row(
      name: "topk-softmax", routing: .topKSoftmax, expertsPerToken: 4,
      activation: .clampedSwiGLU(alpha: 1.702, limit: 7)),
    Row(
      name: "deepseek-v3", routing: .deepseekV3(groups: 4, selectedGroups: 2, normalized: true, scale: 2.5),
      expertsPerToken: 3, activation: .swiGLU, branch: .shared(feedForwardSize: 70)),
    Row(
      name: "sparsemixer", routing: RoutingPolicy(scoring: .sparseMixer(jitter: 0.01)), expertsPerToken: 2,
      activation: .gelu),
    Row(
      name: "llama4", routing: .llama4, expertsPerToken: 1, activation: .swiGLU,
      branch: .gatedShared(feedForwardSize: 40)),
    Row(
      name: "residual", routing: .gshardTop2(), expertsPerToken: 2, activation: .geluTanh,
      branch: .residual(feedForwardSize: 40)),
  ]

  /// Prints the table and returns the number of rows that are out of bounds.
  func run() throws -> Int {
    var table = TextTable("policy", "ISA", "dtype", "error", "bound", "routes off", "")
    var failures = 0
    for row in Self.rows {
      let configuration = try MoEConfiguration(
        hiddenSize: 97, feedForwardSize: 65, expertCount: 16, expertsPerToken: row.expertsPerToken,
        activation: row.activation, routing: row.routing, denseBranch: row.branch)
      let weights = MoEWeights.random(for: configuration, seed: 1)
      let input = Activations.random([4, 40, 97], seed: 2)
      for precision in Precision.allCases {
        let layer = try MoELayer(configuration, weights: weights, precision: precision)
        let expected = try Reference.layer(
          input, weights: weights, configuration: configuration,
          precision: precision == .float32 ? .exact : .bfloat16)
        for set in sets {
          let execution = try Execution(instructionSet: set, threadCount: threadCount)
          let (output, record) = try layer(input, execution: execution)
          let error = relativeRMS(output.tokens.elements, expected.output.flatMap { $0 })
          let ids = expected.routing.expertIDs.flatMap { $0 }
          let off = zip(record.expertIDs, ids).count { Int($0) != $1 }
          let bound = Self.bound(precision, configuration)
          let isRight = error <= bound && off == 0
          if !isRight { failures += 1 }
          table.add(
            row.name, "\(set)", "\(precision)", scientific(error), scientific(bound), "\(off)",
            isRight ? "ok" : "WRONG")
        }
      }
    }
    table.print()
    print(failures == 0 ? "all within bounds" : "\(failures) rows are out of bounds")
    return failures
  }
}

/// √(Σ(actual − expected)²/Σ expected²).
func relativeRMS(_ actual: [Float], _ expected: [Double]) -> Double {
  var difference = 0.0
  var size = 0.0
  for (a, e) in zip(actual, expected) {
    difference += (Double(a) - e) * (Double(a) - e)
    size += e * e
  }
  return difference == 0 ? 0 : (difference / size).squareRoot()
}
