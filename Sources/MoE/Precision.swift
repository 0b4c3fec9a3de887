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

  var cValue: moe_dtype { self == .float32 ? MOE_F32 : MOE_BF16 }
}
