internal import CKernels

/// What the experts' weights are stored in, and their inputs rounded to; sums are fp32 throughout, and the
/// router is fp32 always.
public enum Precision: String, Sendable, CaseIterable, CustomStringConvertible {
  /// fp32 weights, fp32 rows.
  case float32 = "f32"
  /// bfloat16 weights; rows are rounded to bfloat16 before each product.
  case bfloat16 = "bf16"

  /// The name `--dtype` uses.
  public var description: String { rawValue }

  /// The kernels' number format.
  var cValue: moe_format {
    switch self {
    case .float32: MOE_FLOAT32
    case .bfloat16: MOE_BFLOAT16
    }
  }
}
