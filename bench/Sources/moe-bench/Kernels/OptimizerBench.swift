import CKernels
import Foundation
import MoE

/// A step of AdamW, and of SGD with momentum, over more parameters than a cache holds.
enum OptimizerBench: KernelBench {
  static let name = "optimizer"

  private static let adamW = moe_adamw_rule(
    gradient_scale: 0.5, beta1: 0.9, beta1_rest: 0.1, beta2: 0.95, beta2_rest: 0.05, mean_step: 1e-3,
    variance_factor: 2, epsilon: 1e-8, keep: 0.9999)
  private static let sgd = moe_sgd_rule(
    gradient_scale: 0.5, momentum: 0.9, step: 1e-3, keep: 0.9999, nesterov: false)

  static func run(_ session: Session) throws {
    let count = session.isQuick ? 1 << 18 : 1 << 24
    let buffers = try (0..<4).map { index in
      let buffer = try Buffer<Float>(count)
      buffer.fillNormal(seed: UInt64(index), deviation: 1e-2)
      return buffer
    }
    for index in 0..<count { buffers[3][index] = abs(buffers[3][index]) }
    let (values, gradient, mean, variance) = (buffers[0], buffers[1], buffers[2], buffers[3])
    // AdamW reads four streams and writes three, SGD three and two.
    try time("AdamW", bytes: 28, count, values, [mean, variance], session) { execution in
      var rule = adamW
      moe_adamw(execution, &rule, gradient.base, Int64(count), values.base, mean.base, variance.base)
    } expected: { value, m, v, place in
      let g = 0.5 * Double(gradient[place])
      let (m, v) = (0.9 * m + 0.1 * g, 0.95 * v + 0.05 * g * g)
      return 0.9999 * value - 1e-3 * m / (sqrt(2 * v) + 1e-8)
    }
    try time("SGD, momentum", bytes: 20, count, values, [mean, variance], session) { execution in
      var rule = sgd
      moe_sgd(execution, &rule, gradient.base, Int64(count), values.base, mean.base)
    } expected: { value, m, _, place in
      0.9999 * value - 1e-3 * (0.9 * m + 0.5 * Double(gradient[place]))
    }
  }

  private static func time(
    _ rule: String, bytes: Int, _ count: Int, _ values: Buffer<Float>, _ memory: [Buffer<Float>],
    _ session: Session, step: @escaping (moe_execution) -> Void,
    expected: (Double, Double, Double, Int) -> Double
  ) throws {
    let places = Array(stride(from: 0, to: count, by: count / 1024))
    let contenders = try session.instructionSets.map { instructionSet in
      let execution = session.execution(instructionSet)
      let wanted = places.map {
        expected(Double(values[$0]), Double(memory[0][$0]), Double(memory[1][$0]), $0)
      }
      step(execution)
      let error = relativeRMS(places.map { Double(values[$0]) }, wanted)
      try require(error, atMost: roundings(8), "\(rule) on \(instructionSet)")
      return Contender(
        name: instructionSet.rawValue, arithmetic: .init(instructionSet: instructionSet, precision: .float32),
        error: error, run: { step(execution) })
    }
    try session.time(
      bench: name, problem: "\(rule) \(count >> 10)Ki",
      work: Work(bytes: Double(bytes * count), updates: true), contenders)
  }
}
