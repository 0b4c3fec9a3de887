/// The element types of the safetensors format; which of them a reader converts is said by each method.
public enum ElementType: String, Sendable, CaseIterable {
  /// A byte that is 0 or 1.
  case bool = "BOOL"
  /// An unsigned byte, also the storage of packed formats.
  case uint8 = "U8"
  /// A signed byte.
  case int8 = "I8"
  /// An unsigned integer of 16 bits.
  case uint16 = "U16"
  /// A signed integer of 16 bits.
  case int16 = "I16"
  /// An unsigned integer of 32 bits.
  case uint32 = "U32"
  /// A signed integer of 32 bits.
  case int32 = "I32"
  /// An unsigned integer of 64 bits.
  case uint64 = "U64"
  /// A signed integer of 64 bits.
  case int64 = "I64"
  /// A float of 8 bits, 5 of them the exponent.
  case float8E5M2 = "F8_E5M2"
  /// A float of 8 bits, 4 of them the exponent.
  case float8E4M3 = "F8_E4M3"
  /// A power of two in 8 bits.
  case float8E8M0 = "F8_E8M0"
  /// Half precision of IEEE 754.
  case float16 = "F16"
  /// The upper half of a single-precision float.
  case bfloat16 = "BF16"
  /// Single precision.
  case float32 = "F32"
  /// Double precision.
  case float64 = "F64"

  /// Bytes an element takes.
  public var byteCount: Int {
    switch self {
    case .bool, .uint8, .int8, .float8E5M2, .float8E4M3, .float8E8M0: 1
    case .uint16, .int16, .float16, .bfloat16: 2
    case .uint32, .int32, .float32: 4
    case .uint64, .int64, .float64: 8
    }
  }

  /// Whether this library converts the type to `Float` exactly: F32, F16 and BF16.
  public var isFloat: Bool { self == .float32 || self == .float16 || self == .bfloat16 }
}
