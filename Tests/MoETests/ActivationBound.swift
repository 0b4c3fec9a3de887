import MoE
import MoECore
import MoEReference
import TestSupport

/// Bounds of the error of the kernels' activations (`CKernels/math.inc.h`). u is 2⁻²⁴.
enum ActivationBound {
  private static let u = Tolerance.singleRoundoff

  /// σ(x) = 1/(1 + e^−x): e^−x is within 3u, then an addition and a division: 5u, and 6u leaves room for u² terms. If
  /// e^−x overflows, below −88.7, the result is 0 in place of a value under 2⁻¹²⁷.
  static func sigmoid(_ x: Double) -> Double { 6 * u * sigmoidValue(x) + 0x1p-127 }

  /// Returns the bound of an activation at exact arguments; `value` is the exact result.
  ///
  /// - ReLU is exact.
  /// - GELU: 2⁻²⁰ relative, in both tails, and |x|·2⁻¹⁴⁸ more if e^(−x²/2) is subnormal.
  /// - GELU's tanh form is x·σ(2v). v has a cubic of 4 roundings, a constant and a product: 6u relative, which the
  ///   exponential magnifies by |2v|·(1 − σ). Then 6u of σ and u of the product. Underflow adds |x|·2⁻¹²⁷.
  /// - SiLU: 6u of σ and u of a product. Underflow adds |x|·2⁻¹²⁷.
  /// - gpt-oss's clamped form has a product in the exponent, |αg|·(1 − σ)·u, and one more addition.
  /// - A gated form multiplies once more, by the up projection.
  ///
  /// Each product whose result is subnormal adds at most half of 2⁻¹⁴⁹, times its later factors.
  static func intrinsic(_ function: ActivationFunction, gate g: Double, up: Double) -> Double {
    let value = abs(Reference.activation(function, gate: g, up: up))
    switch function {
    case .relu: return 0
    case .gelu: return geluRelative * value + abs(up) * 0x1p-148 + underflow
    case .geluTanh: return geluTanhRelative(up) * value + abs(up) * 0x1p-127 + underflow
    case .swiGLU: return 8 * u * value + abs(g * up) * 0x1p-127 + (1 + abs(up)) * underflow
    case .geGLU: return (geluRelative + u) * value + abs(g * up) * 0x1p-148 + (1 + abs(up)) * underflow
    case .geGLUTanh:
      return (geluTanhRelative(g) + u) * value + abs(g * up) * 0x1p-127 + (1 + abs(up)) * underflow
    case .clampedSwiGLU(let alpha, let limit):
      let (a, gate) = (Double(alpha), min(g, Double(limit)))
      let magnified = abs(a * gate) * (1 - sigmoidValue(a * gate))
      return (magnified + 10) * u * value + abs(gate) * (abs(up) + 1) * 0x1p-127 + (2 + abs(up)) * underflow
    }
  }

  /// Returns the bound at arguments that have errors of `gateError` and `upError`.
  ///
  /// The slope of x·σ(αx), GELU and its tanh form lies within ±1.13, so an ungated form moves by at most
  /// 1.13·δu, and a gated one by 1.13·δg·(|u| + δu) + |act(g)|·δu; the clamped one has |u| + 1 for |u|.
  static func propagated(
    _ function: ActivationFunction, gate g: Double, up: Double, gateError: Double, upError: Double
  ) -> Double {
    let slope = 1.13
    let own = intrinsic(function, gate: g, up: up)
    switch function {
    case .relu: return upError
    case .gelu, .geluTanh: return own + (slope + 0x1p-20) * upError
    case .swiGLU, .geGLU, .geGLUTanh, .clampedSwiGLU:
      let isClamped = if case .clampedSwiGLU = function { true } else { false }
      let factor = abs(Reference.activation(function, gate: g, up: isClamped ? 0 : 1))
      let reach = abs(up) + (isClamped ? 1 : 0) + upError
      return own + (1 + 0x1p-18) * (slope * gateError * reach + factor * upError)
    }
  }

  private static let geluRelative = 0x1p-20
  private static let underflow = Tolerance.singleUnderflow

  private static func sigmoidValue(_ x: Double) -> Double {
    // x·σ(x) with x = 1 up: the oracle's σ is not public.
    x == 0 ? 0.5 : Reference.activation(.swiGLU, gate: x, up: 1) / x
  }

  private static func geluTanhRelative(_ x: Double) -> Double {
    let exponent = 1.5957691216 * (x + 0.044715 * x * x * x)
    return (6 * abs(exponent) * (1 - sigmoidValue(exponent)) + 8) * u
  }
}
