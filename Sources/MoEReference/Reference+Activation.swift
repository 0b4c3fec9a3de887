public import MoECore

#if canImport(Darwin)
  import Darwin
#else
  import Glibc
#endif
extension Reference {
  /// Returns the activation of one element, from u of the up projection and, for a gated function, g of the gate
  /// projection. The formulas are those of `ActivationFunction`.
  public static func activation(_ function: ActivationFunction, gate g: Double, up u: Double) -> Double {
    switch function {
    case .relu: return max(u, 0)
    case .gelu: return gelu(u)
    case .geluTanh: return geluTanh(u)
    case .swiGLU: return g * sigmoid(g) * u
    case .geGLU: return gelu(g) * u
    case .geGLUTanh: return geluTanh(g) * u
    case .clampedSwiGLU(let alpha, let limit):
      let clampedGate = min(g, Double(limit))
      let clampedUp = min(max(u, -Double(limit)), Double(limit))
      return (clampedUp + 1) * clampedGate * sigmoid(Double(alpha) * clampedGate)
    }
  }

  /// Returns x·Φ(x) with Φ(x) = ½·erfc(−x/√2), which stays accurate for small Φ (Hendrycks and Gimpel 2016).
  private static func gelu(_ x: Double) -> Double { x * 0.5 * erfc(-x / 2.0.squareRoot()) }

  /// Returns ½·x·(1 + tanh v) with v = √(2/π)·(x + 0.044715·x³). The code computes the equal x/(1 + e^−2v), which
  /// stays accurate if tanh v is nearly −1.
  private static func geluTanh(_ x: Double) -> Double {
    let v = (2 / Double.pi).squareRoot() * (x + 0.044715 * x * x * x)
    return x / (1 + exp(-2 * v))
  }
}
