public import MoECore

#if canImport(Darwin)
  import Darwin
#else
  import Glibc
#endif
extension Reference {
  /// Returns ∂h/∂g and ∂h/∂u of h = ``activation(_:gate:up:)``; ∂h/∂g is 0 for a function without a gate.
  ///
  /// As in PyTorch, the derivative of a clamp is 0 outside its limits and 1 at them, and the derivative of relu at 0
  /// is 0.
  public static func activationBackward(
    _ function: ActivationFunction, gate g: Double, up u: Double
  ) -> (gate: Double, up: Double) {
    switch function {
    case .relu: return (0, u > 0 ? 1 : 0)
    case .gelu: return (0, geluDerivative(u))
    case .geluTanh: return (0, geluTanhDerivative(u))
    case .swiGLU: return (siluDerivative(g) * u, g * sigmoid(g))
    case .geGLU: return (geluDerivative(g) * u, activation(.gelu, gate: .nan, up: g))
    case .geGLUTanh: return (geluTanhDerivative(g) * u, activation(.geluTanh, gate: .nan, up: g))
    case .clampedSwiGLU(let alpha, let limit):
      let (alpha, limit) = (Double(alpha), Double(limit))
      let clampedGate = min(g, limit)
      let clampedUp = min(max(u, -limit), limit)
      let slope = siluDerivative(clampedGate, alpha: alpha)
      return (
        gate: g <= limit ? (clampedUp + 1) * slope : 0,
        up: abs(u) <= limit ? clampedGate * sigmoid(alpha * clampedGate) : 0
      )
    }
  }

  /// Returns d/dx x·σ(αx) = σ(αx)·(1 + αx·(1 − σ(αx))), with 1 − σ(a) = σ(−a).
  private static func siluDerivative(_ x: Double, alpha: Double = 1) -> Double {
    sigmoid(alpha * x) * (1 + alpha * x * sigmoid(-alpha * x))
  }

  /// Returns d/dx x·Φ(x) = Φ(x) + x·φ(x) with the normal density φ(x) = e^(−x²/2)/√(2π).
  private static func geluDerivative(_ x: Double) -> Double {
    0.5 * erfc(-x / 2.0.squareRoot()) + x * exp(-x * x / 2) / (2 * Double.pi).squareRoot()
  }

  /// Returns d/dx ½·x·(1 + tanh a) = ½·(1 + tanh a) + ½·x·(1 − tanh² a)·a′ with a = √(2/π)·(x + 0.044715·x³).
  private static func geluTanhDerivative(_ x: Double) -> Double {
    let t = tanh((2 / Double.pi).squareRoot() * (x + 0.044715 * x * x * x))
    let slope = (2 / Double.pi).squareRoot() * (1 + 3 * 0.044715 * x * x)
    return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * slope
  }
}
