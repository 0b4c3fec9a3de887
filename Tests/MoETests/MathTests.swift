import CKernels
import MoE
import MoECore
import MoEReference
import TestSupport
import Testing

#if canImport(Glibc)
  import Glibc
#endif

/// The vector functions of `math.inc.h`, tested through the kernels that use them. Activations are tested by a first
/// product whose token is the number 1 and whose weights are the arguments, so that gate and up equal the arguments
/// exactly. e^x and σ are tested by the router's scores.
@Suite struct MathTests {
  /// −120 to 120 in steps of about 1/64, chosen so that no argument is a short binary fraction, then small and special
  /// values.
  static let arguments: [Float] =
    (-7680...7680).map { Float($0) * 0.015627 }
    + (-149...(-1)).flatMap {
      [Float(sign: .plus, exponent: $0, significand: 1.3), -Float(sign: .plus, exponent: $0, significand: 1)]
    }
    + [
      0, -0, 88.72, -88.72, 88.73, -88.73, -103.9, -104.1, 14.99, -14.99, 15.01, -15.01, 1e4, -1e4, 1e30,
      -1e30,
    ]
    + [1, -1].map { $0 * Float.leastNonzeroMagnitude }

  @Test(arguments: InstructionSet.supported, ActivationFunction.samples)
  func activationIsWithinItsBound(_ isa: InstructionSet, _ function: ActivationFunction) {
    for other: Float in [1, -0.7, 1e-30] {
      let found = apply(function, to: Self.arguments, other: other, isa)
      for (argument, result) in zip(Self.arguments, found) {
        let (g, up) = function.isGated ? (Double(argument), Double(other)) : (0, Double(argument))
        let expected = Reference.activation(function, gate: g, up: up)
        let bound = ActivationBound.intrinsic(function, gate: g, up: up)
        #expect(
          Tolerance.agree(Double(result), expected, within: bound),
          "\(function) at \(argument), \(other): \(result), expected \(expected) within \(bound)")
      }
      if !function.isGated { break }
    }
  }

  /// NaN stays visible, +∞ passes, and a product of −∞ and zero is NaN, as in the definition.
  @Test(arguments: InstructionSet.supported, ActivationFunction.samples)
  func activationOfSpecials(_ isa: InstructionSet, _ function: ActivationFunction) {
    let specials: [Float] = [.nan, .infinity, -.infinity]
    for (argument, result) in zip(specials, apply(function, to: specials, other: 0.5, isa)) {
      if argument.isNaN {
        #expect(result.isNaN, "\(function) of NaN is \(result)")
      } else {
        let (g, up) = function.isGated ? (Double(argument), 0.5) : (0, Double(argument))
        let expected = Reference.activation(function, gate: g, up: up)
        let bound = expected.isFinite ? ActivationBound.intrinsic(function, gate: g, up: up) : 0
        #expect(
          Tolerance.agree(Double(result), expected, within: bound) || result.isNaN && expected.isNaN,
          "\(function) of \(argument) is \(result), expected \(expected)")
      }
    }
  }

  /// σ is within 6u, by the scores of a sigmoid router.
  @Test(arguments: InstructionSet.supported)
  func sigmoidIsWithinItsBound(_ isa: InstructionSet) {
    let values = Self.arguments
    var rule = moe_router_rule()
    rule.logit_scale = 1
    rule.scoring = MOE_SIGMOID
    for (x, found) in zip(values, scores(values, width: 1, &rule, isa)) {
      let expected = 1 / (1 + exp(-Double(x)))
      #expect(
        Tolerance.agree(Double(found), expected, within: ActivationBound.sigmoid(Double(x))),
        "σ(\(x)) is \(found), expected \(expected)")
    }
  }

  /// e^x is within 3u, by the softmax of (0, x), whose second score is e^x/(1 + e^x) for x ≤ 0. That adds an addition
  /// and a division. A subnormal result has an error of at most the smallest subnormal.
  @Test(arguments: InstructionSet.supported)
  func exponentialIsWithinItsBound(_ isa: InstructionSet) {
    let values = Self.arguments.filter { $0 <= 0 && $0 > -1e4 }
    var rule = moe_router_rule()
    rule.logit_scale = 1
    rule.scoring = MOE_SOFTMAX
    let found = scores(values.flatMap { [0, $0] }, width: 2, &rule, isa)
    for (index, x) in values.enumerated() {
      let power = exp(Double(x))
      let expected = power / (1 + power)
      #expect(
        Tolerance.agree(
          Double(found[2 * index + 1]), expected, within: 5 * Tolerance.singleRoundoff * expected + 0x1p-149),
        "e^\(x) gives \(found[2 * index + 1]), expected \(expected)")
    }
  }

  /// Returns the activation of each argument. The argument is the up projection or, with a gate, the gate with `other`
  /// as up projection.
  private func apply(
    _ function: ActivationFunction, to arguments: [Float], other: Float, _ isa: InstructionSet
  ) -> [Float] {
    let count = arguments.count
    let column = { (values: [Float]) in try! Matrix(rows: count, columns: 1, elements: values) }
    let up = function.isGated ? Array(repeating: other, count: count) : arguments
    let network = FeedForwardWeights(
      gate: function.isGated ? column(arguments) : nil, up: column(up), down: Matrix(rows: 1, columns: count))
    let gemm = GroupedGEMM(isa, MOE_FLOAT32, experts: [network], activation: function)
    let tiles = gemm.up(try! Matrix(rows: 1, columns: 1, elements: [1]), groups: Groups(rows: [1]))
    return Array(tiles.row(0).prefix(count))
  }

  /// Returns the router's scores for logits [·, width].
  private func scores(
    _ logits: [Float], width: Int, _ rule: inout moe_router_rule, _ isa: InstructionSet
  ) -> [Float] {
    let (t, e) = (Int64(logits.count / width), Int64(width))
    rule.scale = 1
    let input = Fenced(logits)
    let (ids, weights) = (Fenced<Int32>(count: Int(t)), Fenced<Float>(count: Int(t)))
    let scores = Fenced<Float>(count: logits.count)
    let scratch = Fenced.scratch(moe_router_scratch_bytes(isa.threads(1), e))
    var out = unsafe moe_router_output()
    unsafe (out.expert_ids, out.weights, out.scores) = unsafe (ids.base, weights.base, scores.base)
    var tokens = unsafe moe_router_input()
    unsafe (tokens.T, tokens.E, tokens.K, tokens.logits) = unsafe (t, e, 1, UnsafePointer(input.base))
    let bad = unsafe moe_router(isa.threads(1), &rule, &tokens, &out, scratch.raw)
    #expect(bad == -1)
    withExtendedLifetime((input, ids, weights, scratch)) {}
    return scores.elements
  }
}
