/// The type of a tensor's elements, by its name in a safetensors file.
///
/// A file may have any type, also one that a later version of the format adds: the type is then known by its name
/// alone. Each method that reads a tensor says which types it converts.
public struct ElementType: RawRepresentable, Hashable, Sendable, CustomStringConvertible {
  /// The name in the file, such as `BF16`.
  public let rawValue: String

  /// A type by its name in the file.
  public init(rawValue: String) { self.rawValue = rawValue }

  /// A byte that is 0 or 1.
  public static let bool = ElementType(rawValue: "BOOL")
  /// A float of 4 bits, 2 of them the exponent.
  public static let float4 = ElementType(rawValue: "F4")
  /// A float of 6 bits, 2 of them the exponent.
  public static let float6E2M3 = ElementType(rawValue: "F6_E2M3")
  /// A float of 6 bits, 3 of them the exponent.
  public static let float6E3M2 = ElementType(rawValue: "F6_E3M2")
  /// An unsigned byte, also the storage of packed formats.
  public static let uint8 = ElementType(rawValue: "U8")
  /// A signed byte.
  public static let int8 = ElementType(rawValue: "I8")
  /// An unsigned integer of 16 bits.
  public static let uint16 = ElementType(rawValue: "U16")
  /// A signed integer of 16 bits.
  public static let int16 = ElementType(rawValue: "I16")
  /// An unsigned integer of 32 bits.
  public static let uint32 = ElementType(rawValue: "U32")
  /// A signed integer of 32 bits.
  public static let int32 = ElementType(rawValue: "I32")
  /// An unsigned integer of 64 bits.
  public static let uint64 = ElementType(rawValue: "U64")
  /// A signed integer of 64 bits.
  public static let int64 = ElementType(rawValue: "I64")
  /// A float of 8 bits, 5 of them the exponent.
  public static let float8E5M2 = ElementType(rawValue: "F8_E5M2")
  /// A float of 8 bits, 4 of them the exponent.
  public static let float8E4M3 = ElementType(rawValue: "F8_E4M3")
  /// A float of 8 bits, 5 of them the exponent, without infinities and without a negative zero.
  public static let float8E5M2FNUZ = ElementType(rawValue: "F8_E5M2FNUZ")
  /// A float of 8 bits, 4 of them the exponent, without infinities and without a negative zero.
  public static let float8E4M3FNUZ = ElementType(rawValue: "F8_E4M3FNUZ")
  /// A power of two in 8 bits.
  public static let float8E8M0 = ElementType(rawValue: "F8_E8M0")
  /// Half precision of IEEE 754.
  public static let float16 = ElementType(rawValue: "F16")
  /// The upper half of a single-precision float.
  public static let bfloat16 = ElementType(rawValue: "BF16")
  /// Single precision.
  public static let float32 = ElementType(rawValue: "F32")
  /// Double precision.
  public static let float64 = ElementType(rawValue: "F64")
  /// A complex number of two single-precision floats.
  public static let complex64 = ElementType(rawValue: "C64")

  private static let bitCounts: [ElementType: Int] = [
    .float4: 4, .float6E2M3: 6, .float6E3M2: 6, .bool: 8, .uint8: 8, .int8: 8, .float8E5M2: 8, .float8E4M3: 8,
    .float8E5M2FNUZ: 8, .float8E4M3FNUZ: 8, .float8E8M0: 8, .uint16: 16, .int16: 16, .float16: 16,
    .bfloat16: 16, .uint32: 32, .int32: 32, .float32: 32, .uint64: 64, .int64: 64, .float64: 64,
    .complex64: 64,
  ]

  /// Bits per element; nil for a type that is known by its name alone.
  public var bitCount: Int? { Self.bitCounts[self] }

  /// Whether this library converts the type to `Float` exactly: F32, F16 and BF16.
  public var isFloat: Bool { self == .float32 || self == .float16 || self == .bfloat16 }

  /// The name; quoted, and fit to be printed, where the type is not known.
  public var description: String { bitCount == nil ? quoted(rawValue) : rawValue }
}
