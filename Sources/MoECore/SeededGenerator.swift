/// SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014): the same
/// sequence for the same seed on every machine.
public struct SeededGenerator: RandomNumberGenerator, Sendable {
  private var state: UInt64

  /// Starts the sequence of `seed`.
  public init(seed: UInt64) { state = seed }

  /// The next 64 bits.
  public mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }

  /// A float in [0, 1) with 24 random bits.
  public mutating func uniform() -> Float { Float(next() >> 40) * 0x1p-24 }

  /// A nearly standard-normal float: the sum of twelve uniforms less six (Irwin–Hall), which needs no
  /// transcendental function and so has the same bits everywhere.
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
  /// A matrix of nearly normal values of mean 0.
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
