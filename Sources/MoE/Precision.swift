internal import CKernels

/// The format in which the experts' weights are stored and to which their inputs are rounded. All sums are in fp32, and
/// the router is always in fp32.
public enum Precision: String, Sendable, CaseIterable, CustomStringConvertible {
  /// fp32 weights, fp32 rows.
  case float32 = "f32"
  /// bfloat16 weights; rows are rounded to bfloat16 before each product.
  case bfloat16 = "bf16"

  /// The name that `--dtype` uses.
  public var description: String { rawValue }

  /// The kernels' number format.
  var cValue: moe_format {
    switch self {
    case .float32: MOE_FLOAT32
    case .bfloat16: MOE_BFLOAT16
    }
  }
}
