/// The generator SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014). One seed
/// gives the same sequence on every machine.
public struct SeededGenerator: RandomNumberGenerator, Sendable {
  private var state: UInt64

  /// Starts the sequence of `seed`.
  public init(seed: UInt64) { state = seed }

  /// Returns the next 64 random bits.
  public mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }

  /// Returns a float in [0, 1) with 24 random bits.
  public mutating func uniform() -> Float { Float(next() >> 40) * 0x1p-24 }

  /// Returns a nearly standard-normal float: the sum of twelve uniform numbers minus six (Irwin–Hall). This needs no
  /// transcendental function, so it has the same bits on every machine.
  public mutating func normal() -> Float {
    var sum: UInt64 = 0
    for _ in 0..<3 {
      let bits = next()
      sum += (bits & 0xFFFF) + (bits >> 16 & 0xFFFF) + (bits >> 32 & 0xFFFF) + (bits >> 48)
    }
    return Float(Int64(sum) - 6 * 65535) * 0x1p-16
  }
}

extension Matrix {
  /// Returns a matrix of nearly normal values with mean 0.
  public static func normal(
    rows: Int, columns: Int, deviation: Float, using generator: inout SeededGenerator
  ) -> Matrix {
    var matrix = Matrix(rows: rows, columns: columns)
    unsafe matrix.withUnsafeMutableBufferPointer { elements in
      for index in elements.indices { unsafe elements[index] = generator.normal() * deviation }
    }
    return matrix
  }
}
