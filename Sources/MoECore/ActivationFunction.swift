/// The function that an expert applies between its two matrix products.
///
/// In the formulas, g = x·Wgateᵀ and u = x·Wupᵀ, plus their biases. A function without a gate uses only u.
public enum ActivationFunction: Sendable, Equatable {
  /// max(u, 0), as in Switch Transformer.
  case relu
  /// u·Φ(u), Φ being the normal distribution function.
  case gelu
  /// ½·u·(1 + tanh(√(2/π)·(u + 0.044715·u³))).
  case geluTanh
  /// silu(g)·u with silu(g) = g/(1 + e^−g).
  case swiGLU
  /// gelu(g)·u.
  case geGLU
  /// geluTanh(g)·u.
  case geGLUTanh
  /// (clamp(u, −limit, limit) + 1)·min(g, limit)·σ(alpha·min(g, limit)), as in gpt-oss.
  case clampedSwiGLU(alpha: Float, limit: Float)

  /// Whether the expert has a gate projection beside the up projection.
  public var isGated: Bool {
    switch self {
    case .relu, .gelu, .geluTanh: false
    case .swiGLU, .geGLU, .geGLUTanh, .clampedSwiGLU: true
    }
  }
}
